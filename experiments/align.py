"""Find the words of transcribed recordings by forced alignment, and list them in a manifest.

    python experiments/align.py transcripts.csv --out digits.csv
    python experiments/run_svi.py --dataset manifest:digits.csv

transcripts.csv has the columns path,speaker,split,transcript: a sound file in the folder of the
CSV file (or in --root), train or test, and what is said in it, in English words. The manifest
has a row for each digit (or word): path,label,speaker,split, start and end in seconds, score and
word. Paths are relative to the manifest's folder if all files are below it; else to the root,
which is then to be given as --manifest-root.

Any transcript is aligned with nearly any sound: where it is wrong, only the score tells. It is
the mean log-likelihood of the word's frames in nats. Of the 1,938 digits of AN4 (16 kHz) two score
below -4; had the transcript another digit in its place, 82 % would. At 8 kHz scores are lower.

What is aligned is kept in the cache ($PVAE_CACHE): after Ctrl-C the same command goes on. Needs
pocketsphinx. Exit codes: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import csv
import io
import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pvae_pyro.data.alignment.forced import aligner
from pvae_pyro.data.alignment.transcripts import (
    Token,
    align_utterances,
    digit_class,
    read_transcripts,
    speakers_in_both,
)
from pvae_pyro.data.corpora.digit_words import OH
from pvae_pyro.data.corpus import CorpusError, Problem
from pvae_pyro.data.summary import problem_lines
from pvae_pyro.data.table import SPLITS
from pvae_pyro.errors import shown
from pvae_pyro.experiments.support.arguments import place
from pvae_pyro.experiments.support.command import entry
from pvae_pyro.io.files import write_whole
from pvae_pyro.io.provenance import environment, write_json

COLUMNS = ("path", "label", "speaker", "split", "start", "end", "score", "word")
_TOLD = 10


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("transcripts", type=place, metavar="TRANSCRIPTS.csv")
    add("--out", type=place, required=True, metavar="FILE.csv", help="the manifest")
    add("--root", type=place, metavar="DIR", help="what paths are in; else the CSV file's folder")
    add("--words", choices=("digits", "all"), default="digits", help="what to list (digits)")
    add("--oh", choices=OH, default="zero", help='"oh" is 0, left out, or class o (zero)')
    add("--min-score", type=float, metavar="X", help="words below are left out")
    add("--workers", type=int, metavar="N", help="processes; else one a core")
    add("--strict", action="store_true", help="fail, and write nothing, if any is left out")
    add("--report", type=place, metavar="FILE.json", help="counts, and everything left out")
    return parser


def align(arguments: argparse.Namespace) -> tuple[list[Token], dict[str, Any]]:
    """The words to list, and the report. Raises CorpusError."""
    started = time.monotonic()
    made_by = aligner()
    utterances, problems = read_transcripts(arguments.transcripts, arguments.root)
    _check(problems, arguments.strict)
    label = str if arguments.words == "all" else digit_class(arguments.oh)
    wanted = [u for u in utterances if any(label(word) is not None for word in u.words)]
    problems += [
        Problem(u.name, "unknown word", f"{u.name}: figures must be words: {' '.join(u.words)!r}")
        for u in utterances
        if u not in wanted and any(c.isdigit() for word in u.words for c in word)
    ]
    found, not_aligned = align_utterances(wanted, label, workers=arguments.workers)
    problems += not_aligned
    tokens, too_low = _scoring(found, arguments.min_score)
    problems += too_low
    _check(problems, arguments.strict)
    if not tokens:
        reason = f"; the first problem: {problems[0].reason}" if problems else ""
        raise CorpusError(
            f"{shown(arguments.transcripts)}: nothing to list; {len(wanted)} of {len(utterances)} "
            "transcripts have a digit word (zero to nine, oh; --words all lists every word)"
            f"{reason}"
        )
    scores = np.array([token.aligned.score for token in tokens])
    low, middle = np.percentile(scores, (1, 50)).round(2).tolist()
    report = {
        "transcripts": shown(arguments.transcripts),
        "manifest": shown(arguments.out),
        "manifest_root": shown(manifest_root(arguments, tokens)),
        "utterances": len(utterances),
        "utterances_of_interest": len(wanted),
        "utterances_aligned": len({token.entry.path for token in found}),
        "words": len(tokens),
        "splits": {split: _counts(tokens, split) for split in SPLITS},
        "speakers_in_both": speakers_in_both(wanted),
        "score": {"lowest": round(float(scores.min()), 2), "percentile_1": low, "median": middle},
        "left_out": dict(Counter(problem.kind for problem in problems).most_common()),
        "problems": [vars(problem) for problem in problems],
        "aligner": made_by,
        "seconds": round(time.monotonic() - started, 2),
        "options": {
            name: shown(value) if isinstance(value, Path) else value
            for name, value in vars(arguments).items()
        },
        **environment(),
    }
    return tokens, report


def manifest_root(arguments: argparse.Namespace, tokens: Iterable[Token]) -> Path:
    """What the manifest's paths are relative to."""
    folder: Path = arguments.out.resolve().parent
    if all(token.entry.path.is_relative_to(folder) for token in tokens):
        return folder
    root: Path = arguments.root or arguments.transcripts.parent
    return root.resolve()


def write_manifest(path: Path, root: Path, tokens: Iterable[Token]) -> None:
    """Write all of it or, on any failure, nothing."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for token in tokens:
        entry, word = token.entry, token.aligned
        writer.writerow(
            [
                entry.path.relative_to(root).as_posix(),
                *(entry.label, entry.speaker, entry.split),
                *(f"{value:.3f}" for value in (word.start, word.end, word.score)),
                word.word,
            ]
        )
    write_whole(path, text.getvalue().encode())


def summary(report: dict[str, Any]) -> str:
    """A report as text."""
    score = report["score"]
    lines = [
        f"{report['utterances']:,} utterances, {report['utterances_of_interest']:,} of them with "
        f"{'words' if report['options']['words'] == 'all' else 'digits'}, "
        f"{report['utterances_aligned']:,} aligned ({report['aligner']}, {report['seconds']} s)",
        f"{report['words']:,} in {report['manifest']}; "
        f"score: median {score['median']}, 1 in 100 below {score['percentile_1']}, "
        f"lowest {score['lowest']}",
    ]
    for split, found in report["splits"].items():
        classes = sorted(found["classes"].items(), key=lambda item: (-item[1], item[0]))
        counts = ", ".join(f"{label} {count}" for label, count in classes[:_TOLD])
        more = f", … ({len(classes)} classes)" if len(classes) > _TOLD else ""
        lines.append(
            f"{split:6}{found['words']:7,} of {found['speakers']} speakers: {counts}{more}"
        )
    if both := report["speakers_in_both"]:
        lines.append(f"WARNING: {len(both)} speakers in both splits: {', '.join(both[:_TOLD])}")
    told = [(problem["kind"], problem["reason"]) for problem in report["problems"]]
    return "\n".join([*lines, *problem_lines(told, "the --report")])


def _scoring(tokens: Sequence[Token], least: float | None) -> tuple[list[Token], list[Problem]]:
    if least is None:
        return list(tokens), []
    kept, problems = [], []
    for token in tokens:
        name, score = token.entry.name, token.aligned.score
        if score >= least:
            kept.append(token)
        else:
            reason = f"{name}: '{token.aligned.word}' scores {score:.2f}, less than {least:g}"
            problems.append(Problem(name, "low score", reason))
    return kept, problems


def _check(problems: Sequence[Problem], strict: bool) -> None:
    if strict and problems:
        raise CorpusError(f"--strict: {problems[0].reason}")


def _counts(tokens: Iterable[Token], split: str) -> dict[str, Any]:
    here = [token.entry for token in tokens if token.entry.split == split]
    return {
        "words": len(here),
        "speakers": len({entry.speaker for entry in here}),
        "classes": dict(sorted(Counter(entry.label for entry in here).items())),
    }


@entry("what is aligned is kept: the same command goes on", ValueError)
def main(argv: list[str] | None = None) -> int:
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.workers is not None and arguments.workers < 1:
        parser.error("--workers must be at least 1")
    if arguments.min_score is not None and not math.isfinite(arguments.min_score):
        parser.error("--min-score must be a number")
    files = [
        path.resolve()
        for path in (arguments.transcripts, arguments.out, arguments.report)
        if path is not None
    ]
    if len(set(files)) < len(files):
        parser.error("the transcripts, --out and --report must be different files")
    for path in (arguments.out, arguments.report):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                parser.error(f"{path} is a folder")
    tokens, report = align(arguments)
    write_manifest(arguments.out, manifest_root(arguments, tokens), tokens)
    if arguments.report is not None:
        write_json(arguments.report, report)
    print(summary(report))
    root, folder = manifest_root(arguments, tokens), arguments.out.resolve().parent
    root_option = "" if root == folder else f" --manifest-root {root}"
    print(f"\nto use it: --dataset manifest:{arguments.out}{root_option}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
