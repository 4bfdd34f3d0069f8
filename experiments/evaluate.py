"""Score a finished run by more than the paper's purities, and write evaluation.json.

    python experiments/evaluate.py runs/my-run
    python experiments/evaluate.py runs/my-run --only coherence style_swap

docs/evaluation.md explains the measures, which are listed below. They use the test partition (after
--hold-out, the held-out examples), except num_classes, which uses the training partition. Labels
serve only to score; the model is not trained on them. What was measured before with the same
weights, options, code and device is kept. The file is written after each measure. Exit codes: 0,
1 for an error, 2 for wrong usage, 130 for Ctrl-C.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: use the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import hashlib
import textwrap
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import torch
from pydantic_core import from_json
from tqdm import tqdm

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
    run: SavedRun, settings: MeasureSettings, only: list[str], again: bool = False
) -> dict[str, Any]:
    """Measure the keys `only` that are missing, or all of them; the content of evaluation.json.

    Raises RunError if the file is damaged, or a likelihood is not finite.
    """
    measured_on = {"options": asdict(settings), "device": run.device, **environment()}
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
        **measured_on,
    }
    missing = [
        name
        for name in MEASURES
        if {*keys_of(name)} & {*only} and not {*keys_of(name)} <= content.keys()
    ]
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
        content = evaluate(run, settings, options.only, options.again)
    print(summary(content))
    print(f"all of it: {options.run / EVALUATION}")
    return 0


def summary(content: dict[str, Any]) -> str:
    """The main figures, a line for each row of a measure's table."""
    lines = [f"{'STAND-IN: ' if content['stand_in'] else ''}{content['corpus']}", ""]
    for latent, of_modality in content.get("purity", {}).items():
        for name in of_modality:
            cells = []
            for score in SCORES:
                by_chance = content.get(f"{score}_chance", {}).get(latent, {}).get(name)
                cells.append(f"{score} {cell(content[score][latent][name], by_chance)}")
            units = content["active_units"][latent][name]
            lines.append(f"{latent}, {name}: {' '.join(cells)} active {units}")
    for name, one in MEASURES.items():
        for path, *cells in table_rows(content.get(name, {}), one.columns):
            pairs = zip(one.columns or ("",), cells, strict=True)
            if shown := " ".join(f"{col} {text}" for col, text in pairs if text is not None):
                lines.append(f"{name}, {path}: {shown.strip()}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
