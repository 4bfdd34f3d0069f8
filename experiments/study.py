"""One study: runs that differ in one thing, several seeds, side by side.

    python experiments/study.py missing --dataset fsdd --preset quick
    python experiments/study.py priors --dataset fsdd --preset quick --seeds 3 --steps 1600

missing     each modality missing from 0 to 90 % of the examples; or only whole examples kept
paired      1, 5, 25 or 100 % of the pairs known, the rest taken apart
priors      of z_sem: standard normal, Gaussian mixture, VampPrior, flow
likelihoods of pictures and of speech
encoders    of speech: LSTM, convolutions, transformer
unseen      two digits that training never sees
modalities  two, and three

Trains what is missing, goes on with what was interrupted, takes finished runs as they are, and
evaluates each (evaluate.py); other options are those of run_svi.py, for all runs alike. Each run
has a folder in --out; there also are study.json, study.md and, where a fraction is varied,
study.png, written anew after every run. Exit codes are run_svi.py's.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments import evaluate
from experiments.arguments import number
from experiments.corpora import file_name
from experiments.errors import DeviceError, RunError
from experiments.options import make_parser, resolve
from experiments.study_rows import collect, markdown
from experiments.table1 import run_one
from pvae_pyro.figures.against import against
from pvae_pyro.results import environment, write_json

# Pairs of a real corpus, each image with one recording for good; else, as in the paper, by class.
FIXED = ["--pairs", "fixed"]
# Study -> row -> what of a run's options makes it the row of that name.
STUDIES: dict[str, dict[str, list[str]]] = {
    "missing": {
        "0": [],
        **{str(f): ["--missing", str(f)] for f in (0.25, 0.5, 0.75, 0.9)},
        **{f"{f} dropped": ["--missing", str(f), "--drop-incomplete"] for f in (0.5, 0.75)},
        "0 fixed": FIXED,
        "0.5 fixed": [*FIXED, "--missing", "0.5"],
    },
    "paired": {
        "1": [],
        **{str(f): ["--paired", str(f)] for f in (0.25, 0.05, 0.01)},
        "1 fixed": FIXED,
        "0.05 fixed": [*FIXED, "--paired", "0.05"],
    },
    "priors": {name: ["--prior", name] for name in ("normal", "mixture", "vamp", "flow")},
    "likelihoods": {
        "normal": [],
        "laplace pictures": ["--image-likelihood", "laplace"],
        "bernoulli pictures": ["--image-likelihood", "bernoulli"],
        "learnt scales": ["--learn-scale"],
    },
    "encoders": {name: ["--speech-encoder", name] for name in ("lstm", "conv", "transformer")},
    "unseen": {"all": [], "without 8, 9": ["--unseen-classes", "8,9"]},
    "modalities": {
        "two": ["--modalities", "speech,image"],
        "three": ["--modalities", "speech,spanish,image"],
    },
}
# Those whose rows are a fraction, and the fraction's name.
AGAINST = {"missing": "fraction missing of each modality", "paired": "fraction of pairs known"}
# What evaluate.py measures of each run: of every study, and of one.
KEYS = {
    "missing": ("subsets",),
    "paired": ("subsets",),
    "priors": ("prior_clusters", "log_likelihood"),
    "unseen": ("unseen",),
    "modalities": ("subsets", "retrieval"),
}
OF_ROWS = {option for rows in STUDIES.values() for row in rows.values() for option in row}
RESERVED = {*(option for option in OF_ROWS if option.startswith("--")), "--seed", "--out"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="of the study (all)")
    parser.add_argument("--dataset", default="tidigit", metavar="NAME", help="as of run_svi.py")
    parser.add_argument("--preset", default="auto", help="as of run_svi.py")
    parser.add_argument(
        "--seeds", type=number(int, above=0), default=1, metavar="N", help="0 to N - 1 (1)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="else runs/study-STUDY-DATASET")
    parser.add_argument(
        "--limit", type=number(int, above=0), default=500, help="of evaluate.py (500)"
    )
    arguments, others = parser.parse_known_args(argv)
    rows = STUDIES[arguments.study]
    if unknown := set(arguments.rows or ()) - rows.keys():
        parser.error(f"no row {', '.join(sorted(unknown))}: there are {', '.join(rows)}")
    if fixed := [word for word in others if word.split("=")[0] in RESERVED]:
        parser.error(f"{', '.join(fixed)}: what rows and seeds differ in is not to be given")
    common = ["--dataset", arguments.dataset, "--preset", arguments.preset, "--no-report", *others]
    try:
        # Wrong usage shows before anything is trained; and what auto is now, it is for every run.
        preset = resolve(make_parser(None).parse_args(common))["preset"]
        return conduct(arguments, [*common, "--preset", preset])
    except (RunError, DeviceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def conduct(arguments: argparse.Namespace, common: list[str]) -> int:
    """Train and evaluate what is missing, and write the table; the exit code."""
    study = arguments.study
    out = arguments.out or Path("runs", f"study-{study}-{file_name(arguments.dataset)}")
    chosen = [row for row in STUDIES[study] if arguments.rows is None or row in arguments.rows]
    runs = [(row, seed) for seed in range(arguments.seeds) for row in chosen]
    content: dict[str, Any] = {"study": study, "runs": [], **environment()}
    with tqdm(runs, unit="run", desc=study) as bar:
        for row, seed in bar:
            bar.set_description(f"{study}: {row}, seed {seed}")
            folder = out / f"{row.replace(' ', '-').replace(',', '')}-seed{seed}"
            options = [*common, *STUDIES[study][row], "--seed", str(seed)]
            code = run_one(folder, options)
            place = [] if (data := make_parser(None).parse_args(options).data) is None else [data]
            if not code:
                code = evaluate.main(
                    [str(folder), "--only", "coherence", *KEYS.get(study, ())]
                    + ["--limit", str(arguments.limit)]
                    + [word for path in place for word in ("--data", str(path))]
                )
            if code:
                print(f"{folder} is not finished; the same command goes on", file=sys.stderr)
                return code
            results, measured = (
                json.loads((folder / name).read_text("utf-8"))
                for name in ("results.json", evaluate.EVALUATION)
            )
            content["runs"].append(collect(row, results, measured))
            write_json(out / "study.json", content)
            (out / "study.md").write_text(markdown(content), "utf-8")
            if study in AGAINST:
                against(content["runs"], AGAINST[study]).savefig(out / "study.png")
    print((out / "study.md").read_text("utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
