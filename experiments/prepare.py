"""Check a corpus and compute its features, before anything is trained on it.

    python experiments/prepare.py --dataset tidigit --data /my/data
    python experiments/prepare.py --dataset manifest:words.csv --image-dataset manifest:drawings.csv
    python experiments/prepare.py --dataset pairs:pairs.csv

Prints what the corpus has and what was left out, and why, and writes the same with every file that
was left out to report.json in --out. Features go to the cache ($PVAE_CACHE), on all cores, shard
by shard: after Ctrl-C the same command continues. Exit codes: 0, 1 for an error or a corpus that
cannot be trained on, 2 for wrong usage, 130 for Ctrl-C.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import logging
import time
from collections import Counter
from typing import Any

from pvae_pyro.data.cache import data_root
from pvae_pyro.data.corpora.registry import image_corpus
from pvae_pyro.data.features import compute_features, refuse_problems
from pvae_pyro.data.loading import open_speech
from pvae_pyro.data.spelling import alike
from pvae_pyro.data.summary import problem_lines, summarise_images, summarise_speech
from pvae_pyro.errors import shown
from pvae_pyro.experiments.support.arguments import number, place
from pvae_pyro.experiments.support.command import entry
from pvae_pyro.experiments.support.command_line import add_options, validated
from pvae_pyro.experiments.support.config import Options
from pvae_pyro.experiments.support.data import (
    file_name,
    image_options,
    load_known_pairs,
    speech_arguments,
)
from pvae_pyro.experiments.support.options import Corpora, Data, VoiceActivityOptions
from pvae_pyro.io.provenance import environment, write_json


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--data", type=place, metavar="DIR", help="the corpora; else $PVAE_DATA, else ./data")
    groups = (Data, Corpora, VoiceActivityOptions)
    add_options(parser, groups, without=("modality",))
    parser.add_argument(
        "--workers",
        type=number(int, above=0, most=1024),
        metavar="N",
        help="processes; else one a core",
    )
    parser.add_argument(
        "--out", type=place, metavar="DIR", help="folder of the report; else prepared/<dataset>"
    )
    return parser


def prepare(config: Options, root: Path, workers: int | None = None) -> dict[str, Any]:
    """The report on a corpus, whose features are computed."""
    started = time.monotonic()
    if config.has_known_pairs:
        report = _report_on_pairs(config, workers)
    else:
        report = _report_on_corpora(config, root, workers)
    report["seconds_preparing"] = round(time.monotonic() - started, 2)
    asked = config.model_dump(mode="json", exclude_unset=True)
    return {**report, "config": asked, **environment()}


def _report_on_pairs(config: Options, workers: int | None) -> dict[str, Any]:
    modalities = config.modalities if "modalities" in config.model_fields_set else None
    data = load_known_pairs(config, modalities, workers)
    return {
        "dataset": config.dataset,
        "corpus": data.corpus,
        "stand_in": False,
        "rows": {split: len(data.labels_of_tuples(split)) for split in data.partitions},
        "classes": list(data.classes),
        "feature_sample_rates": {name: of.sample_rate for name, of in data.log_mels.items()},
        "notes": list(data.remarks),
        "problems": [vars(problem) for problem in data.problems],
        "left_out": dict(Counter(problem.kind for problem in data.problems).most_common()),
        "errors": [],
    }


def _report_on_corpora(config: Options, root: Path, workers: int | None) -> dict[str, Any]:
    corpus = open_speech(config.dataset, root, **speech_arguments(config))
    corpus, statistics = compute_features(corpus, workers=workers, strict=config.strict)
    report = {"dataset": config.dataset, **summarise_speech(corpus, statistics)}
    report["errors"] = [
        f"no {split} recordings"
        for split, found in report["splits"].items()
        if not found["classes"]
    ]
    if "image_dataset" in config.model_fields_set:
        images = image_corpus(config.image_dataset, root, image_options(config))
        refuse_problems(images.problems, config.strict)
        report["images"] = summarise_images(images)
        for split, found in report["splits"].items():
            there = report["images"]["splits"][split]["classes"]
            if missing := sorted(set(found["classes"]) - set(there)):
                named = ", ".join(map(shown, missing))
                hint = alike(missing, list(there))
                report["errors"].append(f"no {split} image of class {named}{hint}")
    return report


def table(report: dict[str, Any]) -> str:
    """A report as text."""
    if "rows" in report:
        return _table_of_pairs(report)
    lines = [
        f"{'STAND-IN: ' * report['stand_in']}{report['corpus']}, features at "
        f"{report['feature_sample_rate']} Hz",
        *(f"  {note}" for note in report["notes"]),
        "",
        f"{'split':8}{'recordings':>11}{'speakers':>10}{'classes':>9}{'hours':>8}"
        f"{'mean s':>8}{'min':>7}{'median':>8}{'max':>7}",
    ]
    for split, found in report["splits"].items():
        s = found["seconds"] or dict.fromkeys(("sum", "mean", "min", "median", "max"), 0.0)
        lines.append(
            f"{split:8}{found['recordings']:11,}{len(found['speakers']):10}{len(found['classes']):9}"
            f"{s['sum'] / 3600:8.2f}{s['mean']:8.3f}{s['min']:7.3f}"
            f"{s['median']:8.3f}{s['max']:7.3f}"
        )
    lines += ["", *_classes(report["splits"])]
    rates = ", ".join(f"{n:,} at {rate} Hz" for rate, n in report["recorded_rates"].items())
    lines += ["", f"recorded: {rates}", *_left_out(report)]
    lines += [f"WARNING: {warning}" for warning in report["warnings"]]
    if "images" in report:
        images = report["images"]
        lines += ["", f"{'STAND-IN: ' * images['stand_in']}{images['corpus']}"]
        lines += [*(f"  {note}" for note in images["notes"]), ""]
        lines += [*_classes(images["splits"]), *_left_out(images)]
        lines += [f"WARNING: images: {warning}" for warning in images["warnings"]]
    lines += [f"ERROR: {error}: run_svi.py will refuse this" for error in report["errors"]]
    return "\n".join(lines)


def _table_of_pairs(report: dict[str, Any]) -> str:
    classes = ", ".join(map(shown, report["classes"])) or "none: the file has no labels"
    return "\n".join(
        [
            shown(report["corpus"]),
            *(f"  {shown(note)}" for note in report["notes"]),
            f"classes: {classes}",
            *_left_out(report),
        ]
    )


def _classes(splits: dict[str, Any]) -> list[str]:
    return [
        f"{split}: {', '.join(f'{shown(label)} {n:,}' for label, n in found['classes'].items())}"
        for split, found in splits.items()
    ]


def _left_out(report: dict[str, Any]) -> list[str]:
    told = [(problem["kind"], problem["reason"]) for problem in report["problems"]]
    return problem_lines(told, "report.json")


@entry("what is computed is kept: the same command continues", ValueError)
def main(argv: list[str] | None = None) -> int:
    parser = make_parser()
    arguments = parser.parse_args(argv)
    of_command = ("data", "out", "workers")
    given = {name: value for name, value in vars(arguments).items() if name not in of_command}
    config = validated(parser, Options, given)
    folder = arguments.out or Path("prepared", file_name(config.dataset))
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    report = prepare(config, arguments.data or data_root(), arguments.workers)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", report)
    print(table(report))
    print(f"\n{report['seconds_preparing']} s; report in {folder}")
    return 1 if report["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
