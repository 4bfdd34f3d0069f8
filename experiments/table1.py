"""The paper's Table 1: every model, several seeds, beside the paper's own figures.

    python experiments/table1.py --dataset fsdd --seeds 3 --preset quick
    python experiments/table1.py --dataset tidigit --seeds 3 --preset paper --rows pvae jmvae

Trains what is missing, goes on with what was interrupted, and takes finished runs as they are;
other options are those of run_svi.py, for all runs alike. Each run has a folder in --out; there
also are table1.md and table1.json, written anew after every run. Exit codes are run_svi.py's.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import contextlib
from typing import Any

from tqdm import tqdm

from pvae_pyro.experiments import run_svi
from pvae_pyro.experiments.support.arguments import number, place
from pvae_pyro.experiments.support.config import VAE
from pvae_pyro.experiments.support.data import file_name, load_run_data, places
from pvae_pyro.experiments.support.errors import INTERRUPTED, RunError, entry
from pvae_pyro.experiments.support.given import contradictions
from pvae_pyro.experiments.support.options import make_parser, resolve
from pvae_pyro.experiments.support.results_file import read_results
from pvae_pyro.experiments.support.saved_run import CONFIG, RESULTS, read_config
from pvae_pyro.experiments.support.table_rows import aggregate, markdown
from pvae_pyro.io.files import write_whole
from pvae_pyro.io.provenance import environment, write_json

# What of a run's options makes it the row of that name. So is the vae of any modality a row.
ROWS = {
    "jmvae": ["--model", "jmvae", "--objective", "paper"],
    "pvae-b0": ["--model", "pvae", "--beta", "0", "--objective", "paper"],
    "pvae": ["--model", "pvae", "--objective", "paper"],
    "pvae-ours": ["--model", "pvae", "--objective", "ours"],
}

OF_ROWS = ("--model", "--objective", "--beta", "--seed", "--resume", "--out")


@entry("the same command goes on")
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", default="tidigit", metavar="NAME", help="as of run_svi.py")
    parser.add_argument("--preset", default="auto", help="as of run_svi.py")
    parser.add_argument(
        "--seeds",
        type=number(int, above=0, most=1000),
        default=3,
        metavar="N",
        help="0 to N - 1 (3)",
    )
    parser.add_argument(
        "--rows", nargs="+", metavar="ROW", help=f"of vae-NAME, {', '.join(ROWS)} (all)"
    )
    parser.add_argument("--out", type=place, metavar="DIR", help="else runs/table1-DATASET-PRESET")
    arguments, others = parser.parse_known_args(argv)
    common = ["--dataset", arguments.dataset, "--preset", arguments.preset, *others]
    for option in OF_ROWS:
        if any(word == option or word.startswith(f"{option}=") for word in others):
            parser.error(f"{option} is what the rows and seeds differ in")
    # Wrong usage shows before anything is trained; and what auto is now, it is for every run.
    config = resolve(make_parser(None).parse_args(common))
    preset = config.preset
    vaes = [f"{VAE}{name}" for name in config.modalities]
    arguments.rows = arguments.rows or [*vaes, *ROWS]
    for row in arguments.rows:
        if row not in (*vaes, *ROWS):
            parser.error(f"--rows {row}: choose from {', '.join([*vaes, *ROWS])}")
    return train_all(arguments, [*common, "--preset", preset], preset)


def train_all(arguments: argparse.Namespace, common: list[str], preset: str) -> int:
    """Train what is missing, with the options `common`, and write the table; the exit code."""
    out = arguments.out or Path("runs", f"table1-{file_name(arguments.dataset)}-{preset}")
    runs = [(row, seed) for seed in range(arguments.seeds) for row in arguments.rows]
    finished: list[tuple[str, dict[str, Any]]] = []
    made_by = environment()
    with tqdm(runs, unit="run", desc="Table 1") as bar:
        for row, seed in bar:
            bar.set_description(f"Table 1: {row}, seed {seed}")
            folder = out / f"{row}-seed{seed}"
            options = [*common, *_options_of(row), "--seed", str(seed)]
            code = run_one(folder, options)
            if code == INTERRUPTED:
                print(f"{folder} is not finished; the same command goes on", file=sys.stderr)
            if code:
                with contextlib.suppress(OSError):  # nothing was begun: leave no trace
                    out.rmdir()
                return code
            finished.append((row, read_results(folder / RESULTS, whole=False)))
            try:
                content = {**aggregate(finished), **made_by}
            except ValueError as error:
                raise RunError(f"{out}: {error}") from error
            write_json(out / "table1.json", content)
            write_whole(out / "table1.md", markdown(content).encode())
    print((out / "table1.md").read_text("utf-8"))
    return 0


def _options_of(row: str) -> list[str]:
    return ROWS.get(row, ["--model", row, "--objective", "paper"])


def run_one(folder: Path, options: list[str]) -> int:
    """Train, go on or take as it is; returns the exit code, 0 when there are results.

    Raises RunError where the folder's run is of other options.
    """
    if not (folder / CONFIG).exists():
        return run_svi.main([*options, "--out", str(folder)])
    config = read_config(folder)
    different = contradictions(make_parser(None), options, config)
    epochs = make_parser(None).parse_args(options).epochs
    if epochs not in (None, config.epochs):  # a run may be prolonged, a row of a table not
        different.append(f"--epochs {epochs} (the run: {config.epochs})")
    if different:
        raise RunError(f"{folder} is of other options: {', '.join(different)}")
    if not (folder / RESULTS).exists():
        return run_svi.main(["--resume", str(folder), *where(folder, options)])
    given = make_parser(None).parse_args(options)
    if any(config[name] != value for name, value in places(given).items()):
        load_run_data(folder, given.data, places(given))  # the same that lie elsewhere, or an error
    return 0


def where(folder: Path, options: list[str]) -> list[str]:
    """Of the options, those that say where: they may change when a run is taken up again."""
    given, config = make_parser(None).parse_args(options), read_config(folder)
    found = {k: v for k, v in places(given).items() if v != config[k]}
    found |= {} if given.data is None else {"data": str(given.data)}
    found |= {} if given.device == "auto" else {"device": given.device}
    return [word for k, v in found.items() for word in (f"--{k.replace('_', '-')}", v)]


if __name__ == "__main__":
    sys.exit(main())
