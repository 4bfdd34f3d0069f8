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

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
from typing import Any

from tqdm import tqdm

from pvae_pyro.experiments import evaluate
from pvae_pyro.experiments.support.arguments import MOST_EXAMPLES, number, place
from pvae_pyro.experiments.support.data import file_name
from pvae_pyro.experiments.support.errors import INTERRUPTED, entry
from pvae_pyro.experiments.support.options import make_parser, resolve
from pvae_pyro.experiments.support.saved_run import RESULTS
from pvae_pyro.experiments.support.study_rows import collect, markdown
from pvae_pyro.experiments.table1 import run_one, where
from pvae_pyro.figures.scores_by_fraction import scores_by_fraction_figure
from pvae_pyro.figures.style import save_figure
from pvae_pyro.io.files import write_whole
from pvae_pyro.io.provenance import environment, write_json

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


@entry("the same command goes on")
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
        "--seeds",
        type=number(int, above=0, most=1000),
        default=1,
        metavar="N",
        help="0 to N - 1 (1)",
    )
    parser.add_argument("--out", type=place, metavar="DIR", help="else runs/study-STUDY-DATASET")
    parser.add_argument(
        "--limit",
        type=number(int, above=0, most=MOST_EXAMPLES),
        default=500,
        help="of evaluate.py (500)",
    )
    arguments, others = parser.parse_known_args(argv)
    rows = STUDIES[arguments.study]
    if unknown := set(arguments.rows or ()) - rows.keys():
        parser.error(f"no row {', '.join(sorted(unknown))}: there are {', '.join(rows)}")
    of_rows = {word for row in rows.values() for word in row if word.startswith("--")}
    if fixed := [word for word in others if word.split("=")[0] in of_rows | {"--seed", "--out"}]:
        parser.error(f"{', '.join(fixed)}: what rows and seeds differ in is not to be given")
    common = ["--dataset", arguments.dataset, "--preset", arguments.preset, "--no-report", *others]
    # Wrong usage shows before anything is trained; and what auto is now, it is for every run.
    preset = resolve(make_parser(None).parse_args(common))["preset"]
    return conduct(arguments, [*common, "--preset", preset])


def conduct(arguments: argparse.Namespace, common: list[str]) -> int:
    """Train and evaluate what is missing, and write the table; the exit code."""
    study = arguments.study
    out = arguments.out or Path("runs", f"study-{study}-{file_name(arguments.dataset)}")
    chosen = [row for row in STUDIES[study] if arguments.rows is None or row in arguments.rows]
    runs = [(row, seed) for seed in range(arguments.seeds) for row in chosen]
    with tqdm(runs, unit="run", desc=study) as bar:
        for row, seed in bar:
            bar.set_description(f"{study}: {row}, seed {seed}")
            folder = out / folder_name(row, seed)
            options = [*common, *STUDIES[study][row], "--seed", str(seed)]
            code = run_one(folder, options)
            if not code:
                only = ("coherence", *KEYS.get(study, ()))
                limit = ("--limit", str(arguments.limit))
                there = where(folder, options)
                code = evaluate.main([str(folder), "--only", *only, *limit, *there])
            if code == INTERRUPTED:
                print(f"{folder} is not finished; the same command goes on", file=sys.stderr)
            if code:
                return code
            write_tables(study, out)
    print((out / "study.md").read_text("utf-8"))
    return 0


def folder_name(row: str, seed: int) -> str:
    return f"{row.replace(' ', '-').replace(',', '')}-seed{seed}"


def write_tables(study: str, out: Path) -> None:
    """Of all runs of the study that are finished and evaluated, whichever were asked for now."""
    content: dict[str, Any] = {"study": study, "runs": [], **environment()}
    for row in STUDIES[study]:
        for folder in sorted(out.glob(folder_name(row, 0)[:-1] + "*")):
            files = [folder / name for name in (RESULTS, evaluate.EVALUATION)]
            if all(path.exists() for path in files):
                found = (json.loads(path.read_text("utf-8")) for path in files)
                content["runs"].append(collect(row, *found))
    write_json(out / "study.json", content)
    write_whole(out / "study.md", markdown(content).encode())
    if study in AGAINST:
        figure = scores_by_fraction_figure(content["runs"], AGAINST[study])
        save_figure(figure, out / "study", ("png",))


if __name__ == "__main__":
    sys.exit(main())
