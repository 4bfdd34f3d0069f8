"""Find the words of transcribed recordings by forced alignment, and list them in a manifest.

    python experiments/align.py transcripts.csv --out digits.csv
    python experiments/run_svi.py --dataset manifest:digits.csv

transcripts.csv has the columns path,speaker,split,transcript: a sound file in the folder of the
CSV file (or in --root), train or test, and what is said in it, in English words. The manifest
has a row for each digit (or word): path,label,speaker,split, start and end in seconds, score and
word. Paths are relative to the manifest's folder if all files are below it, otherwise to the
root, which is then to be given as --manifest-root.

Nearly any transcript can be aligned with any sound, so check the scores: a score is the mean
log-likelihood of the word's frames in nats. Of the 1,938 digits of AN4 (16 kHz) two score below
-4; if the transcripts had another digit in its place, 82 % would. At 8 kHz scores are lower.

Alignments are kept in the cache ($PVAE_CACHE): after Ctrl-C, the same command continues. Requires
pocketsphinx. Exit codes: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from pvae_pyro.data.alignment.transcripts import (
    Token,
    align_utterances,
    digit_class,
    read_transcripts,
)
from pvae_pyro.data.corpora.digit_words import OH
from pvae_pyro.data.corpus import SPLITS, CorpusError, Problem
from pvae_pyro.errors import shown
from pvae_pyro.experiments.support.arguments import place
from pvae_pyro.experiments.support.command import entry
from pvae_pyro.io.files import write_whole

COLUMNS = ("path", "label", "speaker", "split", "start", "end", "score", "word")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("transcripts", type=place, metavar="TRANSCRIPTS.csv")
    add("--out", type=place, required=True, metavar="FILE.csv", help="the manifest")
    add("--root", type=place, metavar="DIR", help="the folder of the sounds (the CSV file's)")
    add("--words", choices=("digits", "all"), default="digits", help="the words to list (digits)")
    add("--oh", choices=OH, default="zero", help='"oh" is 0, left out, or class o (zero)')
    add("--workers", type=int, metavar="N", help="processes (one per core)")
    add("--strict", action="store_true", help="fail, and write nothing, if any word is left out")
    return parser


def align(arguments: argparse.Namespace) -> tuple[list[Token], list[Problem]]:
    """The words to list, and what is left out. Raises CorpusError."""
    utterances, problems = read_transcripts(arguments.transcripts, arguments.root)
    label = str if arguments.words == "all" else digit_class(arguments.oh)
    for utterance in utterances:
        name, words = utterance.recording.name, " ".join(utterance.words)
        if all(label(word) is None for word in utterance.words) and any(map(str.isdigit, words)):
            reason = f"{name}: write numbers as words, not {words!r}"
            problems.append(Problem(name, "unknown word", reason))
    tokens, not_aligned = align_utterances(utterances, label, workers=arguments.workers)
    problems += not_aligned
    if arguments.strict and problems:
        raise CorpusError(f"--strict: {problems[0].reason}")
    if not tokens:
        reason = f"; the first problem: {problems[0].reason}" if problems else ""
        raise CorpusError(
            f"{shown(arguments.transcripts)}: no word could be listed from {len(utterances)} "
            f"transcripts (zero to nine and oh; with --words all, every word){reason}"
        )
    return tokens, problems


def manifest_root(arguments: argparse.Namespace, tokens: Sequence[Token]) -> Path:
    """The folder that the manifest's paths are relative to."""
    folder: Path = arguments.out.resolve().parent
    if all(token.recording.path.is_relative_to(folder) for token in tokens):
        return folder
    root: Path = arguments.root or arguments.transcripts.parent
    return root.resolve()


def write_manifest(path: Path, root: Path, tokens: Sequence[Token]) -> None:
    """Write the whole file or, on any failure, nothing."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for token in tokens:
        entry, word = token.recording, token.aligned
        times = (f"{value:.3f}" for value in (word.start, word.end, word.score))
        file = entry.path.relative_to(root).as_posix()
        writer.writerow([file, entry.label, entry.speaker, entry.split, *times, word.word])
    write_whole(path, text.getvalue().encode())


def summary(tokens: Sequence[Token], problems: Sequence[Problem]) -> Iterator[str]:
    """What was aligned and what was left out, line by line."""
    scores = [token.aligned.score for token in tokens]
    low, middle = np.percentile(scores, (1, 50))
    files = len({token.recording.path for token in tokens})
    yield (
        f"{len(tokens):,} words in {files:,} utterances; score: median {middle:.2f}, "
        f"1 in 100 below {low:.2f}, lowest {min(scores):.2f}"
    )
    speakers: dict[str, set[str]] = {}
    for split in SPLITS:
        entries = [token.recording for token in tokens if token.recording.split == split]
        counts = Counter(entry.label for entry in entries).most_common(10)
        words = ", ".join(f"{label} {count}" for label, count in counts)
        speakers[split] = {entry.speaker for entry in entries}
        yield f"{split:6}{len(entries):7,} of {len(speakers[split])} speakers: {words}"
    if both := sorted(speakers["train"] & speakers["test"]):
        yield f"WARNING: {len(both)} speakers are in both splits: {', '.join(both[:10])}"
    kinds = Counter(problem.kind for problem in problems).most_common()
    yield f"left out: {len(problems)}" + "".join(f", {number} {kind}" for kind, number in kinds)
    yield from (f"  {shown(problem.reason)}" for problem in problems)


@entry("what is aligned is kept: the same command continues", ValueError)
def main(argv: list[str] | None = None) -> int:
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.workers is not None and arguments.workers < 1:
        parser.error("--workers must be at least 1")
    if arguments.transcripts.resolve() == arguments.out.resolve():
        parser.error("the transcripts and --out must be different files")
    if arguments.out.is_dir():
        parser.error(f"--out {arguments.out} is a folder")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    tokens, problems = align(arguments)
    root, folder = manifest_root(arguments, tokens), arguments.out.resolve().parent
    write_manifest(arguments.out, root, tokens)
    print("\n".join(summary(tokens, problems)))
    root_option = "" if root == folder else f" --manifest-root {root}"
    print(f"\nto use it: --dataset manifest:{arguments.out}{root_option}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
