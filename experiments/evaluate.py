"""Score a finished run by more than the paper's purities, and write evaluation.json.

    python experiments/evaluate.py runs/my-run
    python experiments/evaluate.py runs/my-run --only coherence style_swap
    python experiments/evaluate.py runs/my-run --labels labels.csv

docs/evaluation.md explains the measures, which are listed below. They use the test partition (after
--hold-out, the held-out examples), except num_classes, which uses the training partition. Labels
serve only to score; the model is not trained on them. --labels gives some to a run on pairs that
has none; otherwise the measures that need them are left out, and named. What was measured before
with the same weights, options, labels, code and device is kept. The file is written after each
measure. Exit codes: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: use the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import hashlib
import textwrap
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any

import torch
from pydantic_core import from_json
from tqdm import tqdm

from pvae_pyro.data.labels_file import read_labels, with_labels
from pvae_pyro.evaluate.measures import MEASURES, SCORES, cell, keys_of, measure, table_rows
from pvae_pyro.evaluate.run import MeasureSettings
from pvae_pyro.experiments.support.arguments import (
    MOST_EXAMPLES,
    MOST_STEPS,
    Help,
    add_place,
    number,
    place,
)
from pvae_pyro.experiments.support.command import RunError, entry
from pvae_pyro.experiments.support.data import add_places, places_of
from pvae_pyro.experiments.support.results import Evaluation
from pvae_pyro.experiments.support.saved_run import SavedRun, open_run
from pvae_pyro.io.files import folder_held
from pvae_pyro.io.provenance import environment, write_json
from pvae_pyro.training.checkpoint import CHECKPOINT

EVALUATION = "evaluation.json"
FORMAT = 4  # of evaluation.json: increase it whenever a measure changes
KEYS = [key for name in MEASURES for key in keys_of(name)]


def evaluate(
    run: SavedRun,
    settings: MeasureSettings,
    only: list[str],
    again: bool = False,
    labels: str | None = None,
) -> dict[str, Any]:
    """Measure the keys `only` that are missing, or all of them; the content of evaluation.json.

    labels: SHA-256 of the file that the data's labels are from, if they are not the run's own.

    Raises RunError if the file is damaged, or a likelihood is not finite.
    """
    measured_on = {
        "options": asdict(settings),
        "device": run.device,
        "labels": labels,
        **environment(),
    }
    labelled = bool(run.data.classes)
    content = {} if again else measured_before(run)
    if any(content.get(name) != value for name, value in measured_on.items()):
        content = {}
    content |= {
        "corpus": run.data.corpus,
        "stand_in": run.data.stand_in,
        "classes": list(run.data.classes),
        "model": run.config.model,
        "seed": run.config.seed,
        "config": run.config.model_dump(mode="json"),
        "format": FORMAT,
        "checkpoint": _digest_of_weights(run),
        "needs_labels": [] if labelled else [key for key in KEYS if key in _need_labels(only)],
        **measured_on,
    }
    keys = {name: {*keys_of(name, labelled)} for name in MEASURES}
    missing = [name for name, of in keys.items() if of & {*only} and not of <= content.keys()]
    with tqdm(missing, unit="measure") as bar:
        for name in bar:
            bar.set_description(name)
            try:
                content |= measure(name, run, settings)
            except FloatingPointError as error:
                message = f"{run.folder}: {name}: {error}; the other measures are kept"
                raise RunError(message) from error
            write_json(run.folder / EVALUATION, content)
    return content


def _need_labels(keys: list[str]) -> set[str]:
    return {*keys} & {key for one in MEASURES.values() for key in one.needs_labels}


def measured_before(run: SavedRun) -> dict[str, Any]:
    """The content of evaluation.json if it is of these weights and this format; else nothing.

    Raises RunError if the file is damaged.
    """
    path = run.folder / EVALUATION
    try:
        content = from_json(path.read_bytes(), allow_inf_nan=False)
        if (content.get("format"), content.get("checkpoint")) != (FORMAT, _digest_of_weights(run)):
            return {}
        Evaluation.model_validate(content)
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise RunError(f"{path} is damaged ({error}); evaluate.py --again replaces it") from error
    return content


def _digest_of_weights(run: SavedRun) -> str:
    return hashlib.sha256((run.folder / CHECKPOINT).read_bytes()).hexdigest()


def make_parser() -> argparse.ArgumentParser:
    listed = "\n".join(
        textwrap.fill(f"{' '.join(keys_of(name))}: {one.caption}", 90, subsequent_indent="    ")
        for name, one in MEASURES.items()
    )
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"measures (the keys of {EVALUATION}):\n{listed}",
        formatter_class=Help,
        allow_abbrev=False,
    )
    defaults = MeasureSettings()
    add = parser.add_argument
    add("run", type=place, help="folder of a finished run")
    add(
        "--only", nargs="+", choices=KEYS, default=KEYS, metavar="KEY", help="keys to measure (all)"
    )
    add_place(add)
    add("--again", action="store_true", help="replace what was measured before")
    labels = "CSV file with the columns path,label, for a run on pairs without labels"
    add("--labels", type=place, metavar="FILE", help=labels)
    for name, most, metavar, text in (
        ("limit", MOST_EXAMPLES, "N", "examples to generate"),
        ("judge_steps", MOST_STEPS, "N", "training steps of a judge"),
        ("num_samples", 100_000, "K", "importance weights"),
        ("likelihood_examples", MOST_EXAMPLES, "N", "test pairs whose likelihood is estimated"),
        ("most_classes", 1000, "K", "count classes up to here"),
    ):
        default = getattr(defaults, name)
        add(
            f"--{name.replace('_', '-')}",
            type=number(int, above=0, most=most),
            default=default,
            metavar=metavar,
            help=f"{text} ({default})",
        )
    add_places(parser)
    return parser


@entry(f"what was measured is in the run's {EVALUATION}")
def main(argv: list[str] | None = None) -> int:
    options = make_parser().parse_args(argv)
    settings = MeasureSettings(
        **{name: getattr(options, name) for name in asdict(MeasureSettings())}
    )
    # If there is no such folder, `open_run` says so.
    alone = folder_held(options.run) if options.run.is_dir() else nullcontext()
    with alone, torch.no_grad():
        run = open_run(options.run, options.data, options.device, places_of(options))
        labels = None
        if options.labels is not None:
            run, labels = with_labels_of(run, options.labels)
        content = evaluate(run, settings, options.only, options.again, labels)
    print(summary(content))
    print(f"all of it: {options.run / EVALUATION}")
    return 0


def with_labels_of(run: SavedRun, file: Path) -> tuple[SavedRun, str]:
    """The run with the labels of a file, and the file's SHA-256.

    Raises CorpusError if they do not fit its data, RunError if they are more classes than examples.
    """
    data = with_labels(run.data, read_labels(file), str(file))
    number = run.config.num_clusters or len(data.classes)
    if number > (fewest := min(len(data.test[name]) for name in run.names)):
        raise RunError(f"{file}: {number} classes, but only {fewest} test examples to cluster")
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    return replace(run, data=data, num_clusters=number), sha


def summary(content: dict[str, Any]) -> str:
    """The main figures, a line for each row of a measure's table."""
    lines = [f"{'STAND-IN: ' if content['stand_in'] else ''}{content['corpus']}", ""]
    for latent, of_modality in content.get("active_units", {}).items():
        for name, units in of_modality.items():
            cells = []
            for score in SCORES if "purity" in content else ():
                by_chance = content.get(f"{score}_chance", {}).get(latent, {}).get(name)
                cells.append(f"{score} {cell(content[score][latent][name], by_chance)}")
            lines.append(f"{latent}, {name}: {' '.join([*cells, f'active {units}'])}")
    for name, one in MEASURES.items():
        for path, *cells in table_rows(content.get(name, {}), one.columns):
            pairs = zip(one.columns or ("",), cells, strict=True)
            if shown := " ".join(f"{col} {text}" for col, text in pairs if text is not None):
                lines.append(f"{name}, {path}: {shown.strip()}")
    if left_out := content.get("needs_labels"):
        lines.append(f"needs labels: {', '.join(left_out)} (--labels FILE.csv gives some)")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
