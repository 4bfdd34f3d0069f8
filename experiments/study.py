"""One study: runs that differ in one thing, several seeds, side by side.

    python experiments/study.py table1 --dataset fsdd --seeds 3
    python experiments/study.py missing --dataset fsdd --preset quick
    python experiments/study.py priors --dataset fsdd --preset quick --seeds 3 --steps 1600

table1      every model of the paper's Table 1, beside the paper's own figures
missing     each modality missing from 0 to 90 % of the examples; or only whole examples kept
paired      1, 5, 25 or 100 % of the pairs known, the rest taken apart
priors      of z_sem: standard normal, Gaussian mixture, VampPrior, flow
likelihoods of pictures and of speech
encoders    of speech: LSTM, convolutions, transformer
unseen      two digits that training never sees
modalities  two, and three

Runs that are missing are trained, interrupted ones are resumed, and finished ones are taken as they
are, if their options agree. Each is then evaluated (evaluate.py), except for table1, which needs
purities alone. Other options are those of run_svi.py, for all runs alike. Each run has a folder in
--out; STUDY.json, STUDY.md and, where a fraction is varied, STUDY.png are written there after every
run, of all finished runs in it. Exit codes are run_svi.py's.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import contextlib
from collections.abc import Callable, Iterable
from glob import escape
from typing import Any

from tqdm import tqdm

from pvae_pyro.experiments import evaluate, run_svi
from pvae_pyro.experiments.support.arguments import MOST_EXAMPLES, number, place
from pvae_pyro.experiments.support.command import INTERRUPTED, RunError, entry
from pvae_pyro.experiments.support.command_line import add_options, flag, validated
from pvae_pyro.experiments.support.config import OPTIONS, PLACES, VAE, Options
from pvae_pyro.experiments.support.data import file_name, load_run_data
from pvae_pyro.experiments.support.device import resolve_device
from pvae_pyro.experiments.support.results import read_evaluation, read_results
from pvae_pyro.experiments.support.run_folder import contradictions
from pvae_pyro.experiments.support.saved_run import CONFIG, RESULTS, read_config
from pvae_pyro.experiments.support.tables import aggregate, collect, markdown, side_by_side
from pvae_pyro.figures.scores_by_fraction import scores_by_fraction_figure
from pvae_pyro.figures.style import save_figure
from pvae_pyro.io.files import write_whole
from pvae_pyro.io.provenance import environment, write_json

TABLE1 = "table1"
# Each image keeps one recording, as in a real corpus; else pairs are by class, as in the paper.
FIXED = {"pairs": "fixed"}
# Study -> row -> the options that differ. Table 1 also has the vae-NAME of every modality.
STUDIES: dict[str, dict[str, dict[str, Any]]] = {
    TABLE1: {
        "jmvae": {"model": "jmvae", "objective": "paper"},
        "pvae-b0": {"model": "pvae", "objective": "paper", "beta": 0.0},
        "pvae": {"model": "pvae", "objective": "paper"},
        "pvae-ours": {"model": "pvae", "objective": "ours"},
    },
    "missing": {
        "0": {},
        **{str(f): {"missing": f} for f in (0.25, 0.5, 0.75, 0.9)},
        **{f"{f} dropped": {"missing": f, "drop_incomplete": True} for f in (0.5, 0.75)},
        "0 fixed": FIXED,
        "0.5 fixed": {**FIXED, "missing": 0.5},
    },
    "paired": {
        "1": {},
        **{str(f): {"paired": f} for f in (0.25, 0.05, 0.01)},
        "1 fixed": FIXED,
        "0.05 fixed": {**FIXED, "paired": 0.05},
    },
    "priors": {name: {"prior": name} for name in ("normal", "mixture", "vamp", "flow")},
    "likelihoods": {
        "normal": {},
        "laplace pictures": {"image_likelihood": "laplace"},
        "bernoulli pictures": {"image_likelihood": "bernoulli"},
        "learnt scales": {"learn_scale": True},
    },
    "encoders": {name: {"speech_encoder": name} for name in ("lstm", "conv", "transformer")},
    "unseen": {"all": {}, "without 8, 9": {"unseen_classes": ("8", "9")}},
    "modalities": {
        "two": {"modalities": ("speech", "image")},
        "three": {
            "modalities": ("speech", "spanish", "image"),
            "modality": ("spanish=speech:secuvoice",),
        },
    },
}
# Those whose rows are a fraction, and the fraction's name.
AGAINST = {"missing": "fraction missing of each modality", "paired": "fraction of pairs known"}
# What evaluate.py measures of each run, beside the coherence.
MEASURES = {
    "missing": ("subsets",),
    "paired": ("subsets",),
    "priors": ("prior_clusters", "log_likelihood"),
    "unseen": ("unseen",),
    "modalities": ("subsets", "retrieval"),
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="%(prog)s STUDY [options]",
    )
    add = parser.add_argument
    seeds = number(int, above=0, most=1000)
    limit = number(int, above=0, most=MOST_EXAMPLES)
    add("study", choices=STUDIES, metavar="STUDY", help=", ".join(STUDIES))
    add("--rows", nargs="+", metavar="ROW", help="of the study (all)")
    add("--seeds", type=seeds, default=1, metavar="N", help="0 to N - 1 (1)")
    add("--out", type=place, metavar="DIR", help="else runs/STUDY-DATASET-PRESET")
    add("--data", type=place, metavar="DIR", help="the corpora; else $PVAE_DATA, else ./data")
    add("--evaluate-limit", type=limit, default=500, metavar="N", help="evaluate.py --limit (500)")
    add_options(parser, OPTIONS, without=("seed",))
    return parser


@entry("the same command resumes")
def main(argv: list[str] | None = None) -> int:
    parser = make_parser()
    arguments = parser.parse_args(argv)
    given = {name: v for name, v in vars(arguments).items() if name in Options.model_fields}
    common = validated(parser, Options, given)
    rows = rows_of(arguments.study, common.names)
    if unknown := {*(arguments.rows or ())} - rows.keys():
        parser.error(f"--rows {' '.join(sorted(unknown))}: choose from {', '.join(rows)}")
    if fixed := given.keys() & {name for row in rows.values() for name in row}:
        words = ", ".join(map(flag, sorted(fixed)))
        parser.error(f"leave out {words}: the rows of {arguments.study} differ in it")
    # What `auto` stands for now it stands for in every run.
    given["preset"] = common.resolved(resolve_device(common.device)).preset
    runs = {
        (row, seed): validated(parser, Options, {**given, **rows[row], "seed": seed})
        for seed in range(arguments.seeds)
        for row in rows
        if row in (arguments.rows or rows)
    }
    name = f"{arguments.study}-{file_name(common.dataset)}-{given['preset']}"
    arguments.out = arguments.out or Path("runs", name)
    return conduct(arguments, rows, runs)


def rows_of(study: str, modalities: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Row -> the options that make a run the row of that name."""
    vaes = {f"{VAE}{name}": {"model": f"{VAE}{name}", "objective": "paper"} for name in modalities}
    return {**(vaes if study == TABLE1 else {}), **STUDIES[study]}


def conduct(
    arguments: argparse.Namespace, rows: Iterable[str], runs: dict[tuple[str, int], Options]
) -> int:
    """Train and evaluate what is missing, and write the tables; the exit code."""
    study, out = arguments.study, arguments.out
    with tqdm(runs.items(), unit="run", desc=study) as bar:
        for (row, seed), asked in bar:
            bar.set_description(f"{study}: {row}, seed {seed}")
            folder = out / f"{folder_name(row)}{seed}"
            code = run_one(folder, asked, arguments.data)
            if not code and study != TABLE1:
                only = ["--only", "coherence", *MEASURES.get(study, ())]
                limit = ["--limit", str(arguments.evaluate_limit)]
                code = evaluate.main([str(folder), *only, *limit, *where(asked, arguments.data)])
            if code == INTERRUPTED:
                print(f"{folder} is not finished; the same command resumes it", file=sys.stderr)
            if code:
                with contextlib.suppress(OSError):  # nothing was begun: leave no trace
                    out.rmdir()
                return code
            write_tables(study, rows, out)
    print((out / f"{study}.md").read_text("utf-8"))
    return 0


def run_one(folder: Path, asked: Options, root: Path | None = None) -> int:
    """Train a run, resume it or take it as it is; the exit code, 0 when there are results.

    root: as --data. Raises RunError where the folder's run has other options.
    """
    if not (folder / CONFIG).exists():
        words = words_of(asked, asked.model_fields_set, root)
        return run_svi.main([*words, "--no-report", "--out", str(folder)])
    config = read_config(folder)
    different = contradictions(asked.resolved(config.device), config)
    if asked.epochs not in (None, config.epochs):  # a run may be prolonged, a row of a table not
        different.append(f"--epochs {asked.epochs} (the run: {config.epochs})")
    if different:
        raise RunError(f"{folder} has other options: {', '.join(different)}")
    if not (folder / RESULTS).exists():
        return run_svi.main(["--resume", str(folder), *where(asked, root), "--no-report"])
    places = {name: getattr(asked, name) for name in PLACES if name in asked.model_fields_set}
    if any(getattr(config, name) != value for name, value in places.items()):
        load_run_data(config, folder, root, places)  # the same data elsewhere, or an error
    return 0


def where(asked: Options, root: Path | None) -> list[str]:
    """The words for what may change when a run is taken up again: places of data, the device."""
    return words_of(asked, asked.model_fields_set & {*PLACES, "device"}, root)


def words_of(asked: Options, names: Iterable[str], root: Path | None) -> list[str]:
    """The words of a command line that give the options `names`, and --data."""
    words = [] if root is None else [f"--data={root}"]
    for name in names:
        value = getattr(asked, name)
        if isinstance(value, bool):
            words.append(flag(name if value else f"no_{name}"))
        else:
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            words.append(f"{flag(name)}={text}")
    return words


def folder_name(row: str) -> str:
    """The name of a row's folders, but for the number of the seed at its end."""
    return f"{row.replace(' ', '-').replace(',', '')}-seed"


def write_tables(study: str, rows: Iterable[str], out: Path) -> None:
    """Of all runs in `out` that are finished and evaluated, whichever were asked for now."""
    files: dict[str, Callable[[Path], Any]] = {RESULTS: read_results}
    if study != TABLE1:
        files[evaluate.EVALUATION] = read_evaluation
    found: list[Any] = [
        (row, *(read(folder / name) for name, read in files.items()))
        for row in rows
        for folder in sorted(out.glob(f"{escape(folder_name(row))}*"))
        if all((folder / name).exists() for name in files)
    ]
    content: dict[str, Any]
    if study == TABLE1:
        content = aggregate(found)
        text = markdown(content)
    else:
        content = {"study": study, "runs": [collect(*of_run) for of_run in found]}
        text = side_by_side(study, content["runs"])
    write_json(out / f"{study}.json", {**content, **environment()})
    write_whole(out / f"{study}.md", text.encode())
    if study in AGAINST:
        figure = scores_by_fraction_figure(content["runs"], AGAINST[study])
        save_figure(figure, out / study, ("png",))


if __name__ == "__main__":
    sys.exit(main())
