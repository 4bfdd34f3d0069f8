"""Word boundaries in Kaldi's CTM format."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pvae_pyro.data.corpus import Problem
from pvae_pyro.data.text_file import read_text
from pvae_pyro.errors import shown

_LATEST = 86_400.0  # seconds
_ROUNDING = 0.0051  # seconds: times are written with two decimals, each rounded


@dataclass(frozen=True)
class Span:
    """A word, from start to end in seconds."""

    word: str
    start: float
    end: float


def read_ctm(
    paths: Iterable[str | os.PathLike[str]],
) -> tuple[dict[str, tuple[Span, ...]], list[Problem]]:
    """Utterance (in lower case) -> its words in order, and the problems.

    Lines are ``utterance channel start duration word``, perhaps with a confidence at the end, or
    comments that start with ``;;`` (https://kaldi-asr.org/doc, "CTM"; NIST's SCTK).

    An utterance with another line, an impossible time or overlapping words is left out as a problem
    of the kind ``"alignment"``, and one that is in two files as ``"duplicate"``. Raises
    `CorpusError` as `read_text` does.
    """
    utterances: dict[str, tuple[Span, ...]] = {}
    problems: list[Problem] = []
    spoilt: set[str] = set()
    for path in map(Path, paths):
        in_file: dict[str, list[Span]] = {}
        for number, line in enumerate(read_text(path).splitlines(), 1):
            if not line.strip() or line.startswith(";;"):
                continue
            where = f"{shown(path.name)}:{number}"
            utterance = line.split()[0].lower()
            spans = in_file.setdefault(utterance, [])
            try:
                span = _span(line)
                if spans and span.start < spans[-1].end - _ROUNDING:
                    raise ValueError(f"starts at {span.start} s, before the previous word ends")
                spans.append(span)
            except ValueError as error:
                spoilt.add(utterance)
                reason = f"{where}: alignment of {utterance} {error}: {line.strip()!r}"
                problems.append(Problem(utterance, "alignment", reason))
        for utterance, spans in in_file.items():
            if utterance in utterances:
                spoilt.add(utterance)
                reason = f"{shown(path)}: {utterance} is in another alignment file as well"
                problems.append(Problem(utterance, "duplicate", reason))
            utterances[utterance] = tuple(spans)
    return {name: spans for name, spans in utterances.items() if name not in spoilt}, problems


def _span(line: str) -> Span:
    fields = line.split()
    if len(fields) not in (5, 6):
        raise ValueError(f"has {len(fields)} fields, not 5 or 6")
    try:
        start, duration = float(fields[2]), float(fields[3])
    except ValueError as error:
        raise ValueError("has a time that is not a number") from error
    if not (0 <= start < _LATEST and 0.001 <= duration < _LATEST):
        raise ValueError("has an impossible time")
    # Rounded, because the sum of two decimal numbers is not exact.
    return Span(fields[4].lower(), round(start, 3), round(start + duration, 3))
