"""TIDIGITS (LDC93S10): English digit strings, 20 kHz, cut into single digits.

Leonard & Doddington 1993, https://catalog.ldc.upenn.edu/LDC93S10. Licensed: nothing is downloaded.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pvae_pyro.data.alignment.ctm import Span, read_ctm
from pvae_pyro.data.alignment.forced import Utterance
from pvae_pyro.data.alignment.transcripts import align_utterances
from pvae_pyro.data.corpora.digit_words import WORDS, digit_label
from pvae_pyro.data.corpus import CorpusError, CorpusMissing, Problem, Split
from pvae_pyro.data.listing import list_corpus
from pvae_pyro.data.recording import Recording, SpeechCorpus
from pvae_pyro.errors import shown

SAMPLE_RATE = 20000
# Of the adults, in the public alignments (tidigits_ctm): every digit of every string.
ADULT_DIGITS: dict[Split, int] = {"train": 28329, "test": 28583}
ADULT_OHS: dict[Split, int] = {"train": 2568, "test": 2557}
SPEAKERS = {
    "adults": ("man", "woman"),
    "children": ("boy", "girl"),
    "all": ("man", "woman", "boy", "girl"),
}

# Folders of the data root that may hold it: the LDC's names, their discs, and common copies.
_FOLDER = re.compile(
    r"tidigits?(?!_ctm).*|ldc93s10.*|(disc|cd)[-_]?4[-._]\d[-._]\d.*", re.IGNORECASE
)
# What all layouts have in common: the end of the path.
_TAIL = re.compile(
    r"(?:.*/)?(train|test)/(man|woman|boy|girl)/([^/]+)/([^/]+)\.(?:wav|sph|flac)", re.IGNORECASE
)
_NAME = re.compile(r"([1-9zo]+)([ab])", re.IGNORECASE)


@dataclass(frozen=True)
class _Utterance:
    path: Path
    split: Split
    group: str
    speaker: str
    digits: str  # as in the file's name: 1-9, z, o
    take: str

    @property
    def id(self) -> str:
        """As Kaldi's recipe and the public alignments call it."""
        return f"{self.speaker}_{self.digits}{self.take}"

    @property
    def name(self) -> str:
        return f"{self.split}/{self.group}/{self.speaker}/{self.digits}{self.take}"

    def recording(self, part: str = "", label: str = "") -> Recording:
        return Recording(self.path, f"{self.name}{part}", label, self.speaker, self.split)


def tidigits_corpus(
    root: str | os.PathLike[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    alignments: str | os.PathLike[str] | None = None,
    speakers: str = "adults",
    oh: str = "zero",
) -> SpeechCorpus:
    """Every digit of every string, in the corpus's own split (no speaker is in both parts).

    folder: where to look; None is every folder of `root` that is named like the corpus or one
        of its discs. Under it, an utterance is any file whose path ends like
        ``train/man/ae/z9z6531a.wav`` (any case): digits 1-9, z (zero), o (oh), then the take.
    alignments: CTM file with the word boundaries, or a folder of them; None is
        ``tidigits_ctm`` in `root`, or in or beside `folder`. Utterances that are in none are
        aligned here, which takes pocketsphinx and some minutes, once.
    speakers: ``adults`` (as the paper), ``children`` or ``all``.
    oh: the word "oh" is ``zero`` (class 0), left out (``drop``), or class "o" (``separate``).

    Names are ``train/man/ae/z9z6531a#2``: the utterance, and the place of the digit from 1.
    Sound is whatever `read_audio` takes, at 20 kHz. Left out, as problems: files of other names,
    copies of an utterance, utterances whose alignment has other words than their name or cannot
    be made.

    Raises `CorpusMissing` when there is no utterance, `CorpusError` for alignments that cannot
    be read, or that were given and are of nothing here.
    """
    root = Path(root)
    folders = [Path(folder)] if folder is not None else _folders(root)
    everyone, problems = _find(folders)
    utterances = [u for u in everyone if u.group in SPEAKERS[speakers]]
    if not utterances:
        looked = ", ".join(map(shown, folders)) or f"{shown(root)} (tidigits*, LDC93S10*, discs)"
        raise CorpusMissing(
            f"no TIDIGITS utterance of {speakers} (…/train/man/ae/z9z6531a.wav) under {looked}; "
            "--folder says where"
        )
    files = _ctm_files(root, folder, alignments)
    spans, bad_spans = read_ctm(files)
    if alignments is not None and not {u.id for u in everyone} & spans.keys():
        reason = f": {bad_spans[0].reason}" if bad_spans else ""
        raise CorpusError(f"{shown(alignments)} aligns no utterance that is here{reason}")
    # An alignment says speaker and digits only: it is of no use where two utterances have both.
    number = Counter(utterance.id for utterance in everyone)
    spans = {name: words for name, words in spans.items() if number[name] == 1}
    bad = {problem.name: problem for problem in bad_spans if number[problem.name] == 1}
    digits: dict[str, list[Recording]] = {}
    to_align = []
    for utterance in utterances:
        problem = _check_alignment(utterance, spans, bad)
        if problem is not None:
            problems.append(problem)
        elif utterance.id in spans:
            digits[utterance.name] = _cut(utterance, spans[utterance.id], oh)
        else:
            to_align.append(utterance)
    notes = []
    if to_align:
        tokens, not_aligned = align_utterances(
            [Utterance(u.recording(), tuple(WORDS[digit] for digit in u.digits)) for u in to_align],
            partial(digit_label, oh=oh),
            required_rate=SAMPLE_RATE,
        )
        for token in tokens:
            name = token.recording.name.split("#")[0]
            digits.setdefault(name, []).append(token.recording)
        problems += not_aligned
        where = shown(files[0].parent) if files else "tidigits_ctm (--alignments)"
        lacking = f"{len(to_align)} of {len(utterances)} utterances had no alignment in {where}"
        notes.append(f"{lacking}: made here")
    recordings = [digit for utterance in utterances for digit in digits.get(utterance.name, ())]
    title = f"TIDIGITS ({speakers})"
    corpus = list_corpus(
        title, SAMPLE_RATE, recordings, problems, notes=notes, required_rate=SAMPLE_RATE
    )
    if speakers == "children":
        return corpus
    return replace(corpus, completeness=partial(_completeness, oh))


def _check_alignment(
    utterance: _Utterance, spans: Mapping[str, Sequence[Span]], bad: Mapping[str, Problem]
) -> Problem | None:
    if problem := bad.get(utterance.id):
        return Problem(utterance.name, problem.kind, problem.reason)
    spoken = "".join(span.word for span in spans.get(utterance.id, ()))
    if spoken in ("", utterance.digits):
        return None
    reason = f"{shown(utterance.path)}: is aligned with the digits {spoken!r}"
    return Problem(utterance.name, "transcript", reason)


def _cut(utterance: _Utterance, spans: Sequence[Span], oh: str) -> list[Recording]:
    return [
        replace(utterance.recording(f"#{place}", label), start=span.start, end=span.end)
        for place, span in enumerate(spans, 1)
        if (label := digit_label(span.word, oh)) is not None
    ]


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(p for p in root.iterdir() if _FOLDER.fullmatch(p.name) and p.is_dir())


def _find(folders: Iterable[Path]) -> tuple[list[_Utterance], list[Problem]]:
    utterances: dict[str, _Utterance] = {}
    problems: list[Problem] = []
    for path in sorted(file for folder in folders for file in _files(folder, problems)):
        tail = _TAIL.fullmatch(path.as_posix())
        if tail is None:
            continue
        split: Split = "train" if tail[1].lower() == "train" else "test"
        name = _NAME.fullmatch(tail[4])
        if name is None:
            reason = f"{shown(path)}: not a name of digits 1-9, z, o and a take a or b"
            problems.append(Problem(shown(path), "name", reason))
            continue
        found = _Utterance(
            path, split, tail[2].lower(), tail[3].lower(), name[1].lower(), name[2].lower()
        )
        first = utterances.setdefault(found.name, found)
        if first is not found:
            reason = f"{shown(path)}: is utterance {found.name}, as {shown(first.path)} is"
            problems.append(Problem(found.name, "duplicate", reason))
    return list(utterances.values()), problems


def _files(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    """All files below, through links too: disc images are often linked together."""

    def unreadable(error: OSError) -> None:
        where = shown(error.filename)
        problems.append(Problem(where, "no permission", f"{where}: {error.strerror}"))

    seen: set[str] = set()
    for parent, below, files in os.walk(folder, followlinks=True, onerror=unreadable):
        real = os.path.realpath(parent)
        if real in seen:
            below.clear()  # a link back up, or a second way to the same place
            continue
        seen.add(real)
        yield from (Path(parent, name) for name in files)


def _ctm_files(
    root: Path,
    folder: str | os.PathLike[str] | None,
    alignments: str | os.PathLike[str] | None,
) -> list[Path]:
    if alignments is None:
        beside = [] if folder is None else [Path(folder), Path(folder).parent]
        places = [place / "tidigits_ctm" for place in (root, *beside)]
        return next((files for place in places if (files := sorted(place.glob("*.ctm")))), [])
    place = Path(alignments)
    files = sorted(place.glob("*.ctm")) if place.is_dir() else [place] if place.is_file() else []
    if not files:
        raise CorpusError(f"{shown(place)}: no alignment file (*.ctm) is there")
    return files


def _completeness(oh: str, recordings: Sequence[Recording]) -> str:
    adults = [r.split for r in recordings if r.name.split("/")[1] in SPEAKERS["adults"]]
    counts, whole = [], True
    for split, digits in ADULT_DIGITS.items():
        number = digits - (ADULT_OHS[split] if oh == "drop" else 0)
        found = adults.count(split)
        counts.append(f"{found:,} of {number:,} {split} digits")
        whole &= found == number
    return f"{'complete' if whole else 'NOT COMPLETE'}: {', '.join(counts)} of the adults"
