"""Corpora whose files say by their names what they are: a template finds digit and speaker."""

import hashlib
import os
import re
import unicodedata
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pvae_pyro.data.corpus import CorpusError, Problem
from pvae_pyro.data.listing import Entry
from pvae_pyro.errors import shown

PLACEHOLDERS = ("digit", "speaker", "phone", "split", "any")
SOUNDS = (".wav", ".flac", ".sph")

_ACCENTS = "[\u0300-\u036f]*"  # combining marks, which decomposed text has after its letters
_TEST_SHARE = 1 / 4


@dataclass(frozen=True)
class Match:
    """A sound file, and what its name says. Names of people and phones are in lower case.

    name: the path within the folder, printable.
    phone, split: None where the pattern has no such placeholder.
    """

    path: Path
    name: str
    digit: str
    speaker: str
    phone: str | None
    split: str | None


def matches(
    folder: Path, pattern: str, *, words: Sequence[str]
) -> tuple[list[Match], list[Problem]]:
    """The sound files (`SOUNDS`) below `folder` whose path within it fits `pattern`.

    pattern: folders and file, divided by ``/``, e.g. ``{speaker}/{phone}/{digit}_{any}.wav``.
        ``{digit}`` is 0 to 9 or its word, ``{split}`` is train or test, and ``{speaker}``,
        ``{phone}`` and ``{any}`` are one character or more, never ``/``. Each may be there once,
        ``{any}`` more often; ``{digit}`` and ``{speaker}`` must be.
    words: the ten digits from 0 as the language writes them.

    Upper and lower case are the same, so are composed and decomposed letters, and accents on
    words may be missing. Links to folders are followed, once; hidden files are passed over.
    Problems: "name" (a sound file that does not fit), "ambiguous" (it fits in two ways),
    "not a file", "no permission" and "unreadable" (a folder that cannot be listed).

    Raises `CorpusError` for a pattern that cannot be used, which names the placeholders there
    are, for a folder that cannot be listed, and for one with no file that fits.
    """
    greedy, lazy = _compiled(pattern, words, ""), _compiled(pattern, words, "?")
    labels = {_plain(word): str(digit) for digit, word in enumerate(words)}
    paths, problems = _sound_files(folder)
    found: list[Match] = []
    for path in paths:
        name = shown(path.relative_to(folder))
        first, last = greedy.fullmatch(_folded(name)), lazy.fullmatch(_folded(name))
        if first is None or last is None:
            reason = f"{shown(path)}: does not fit the pattern {pattern}"
            problems.append(Problem(name, "name", reason))
        elif first.groupdict() != last.groupdict():
            ways = f"{_named(first)} or {_named(last)}"
            reason = f"{shown(path)}: fits the pattern {pattern} in two ways: {ways}"
            problems.append(Problem(name, "ambiguous", reason))
        else:
            said = _named(first)
            digit = labels.get(_plain(said["digit"]), said["digit"])
            speaker, phone, split = said["speaker"], said.get("phone"), said.get("split")
            found.append(Match(path, name, digit, speaker, phone, split))
    if not found:
        why = f"; {problems[0].reason}" if problems else ""
        raise CorpusError(
            f"{shown(folder)}: none of its {len(paths)} sound files ({', '.join(SOUNDS)}) fits the "
            f"pattern {pattern}{why}"
        )
    return found, problems


def of_phone(found: Sequence[Match], phone: str) -> list[Match]:
    """Those of one phone; raises `CorpusError`, naming those there are, if it is not there."""
    wanted = _composed(phone)
    if wanted not in phones(found):
        known = ", ".join(phones(found)) or "none, as the pattern has no {phone}"
        raise CorpusError(f"no recordings of phone {phone!r}; there are: {known}")
    return [match for match in found if match.phone == wanted]


def phones(found: Sequence[Match]) -> list[str]:
    """The phones there are, in order of name."""
    return sorted({match.phone for match in found if match.phone is not None})


def split_entries(
    found: Sequence[Match], test_speakers: Collection[str] | None = None
) -> list[Entry]:
    """Entries for training and for testing: as `{split}` says, else no speaker is in both.

    test_speakers: their names. Where they are not given, a speaker is for testing if the first
        eight bytes of the SHA-256 of the name, as a number, are below 2^64 / 4: about one in
        four, and more speakers do not move the others. If that is nobody, the one with the
        lowest number is, and if it is everybody, the one with the highest is not.

    Raises `CorpusError` where a split would be empty, or a test speaker is not there.
    """
    speakers = sorted({match.speaker for match in found})
    if all(match.split is not None for match in found):
        if test_speakers is not None:
            raise CorpusError("test speakers are given, and the pattern has {split} as well")
        testing = {match for match in found if match.split == "test"}
    else:
        chosen = _test_speakers(speakers, test_speakers)
        testing = {match for match in found if match.speaker in chosen}
    if not 0 < len(testing) < len(found):
        empty = "training" if testing else "testing"
        raise CorpusError(
            f"no recording is left for {empty}: there are {len(found)} of {len(speakers)} "
            f"speakers ({', '.join(speakers[:5])}{', …' if len(speakers) > 5 else ''})"
        )
    return [
        Entry(m.path, m.name, m.digit, m.speaker, "test" if m in testing else "train")
        for m in found
    ]


def _test_speakers(speakers: Sequence[str], given: Collection[str] | None) -> set[str]:
    if given is not None:
        names = {_composed(name) for name in given}
        if unknown := names - set(speakers):
            raise CorpusError(f"no recordings of the test speakers {', '.join(sorted(unknown))}")
        return names
    place = {
        name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
        for name in speakers
    }
    count = sum(place[name] < _TEST_SHARE for name in speakers)
    count = min(max(count, 1), len(speakers) - 1)  # at least one in each
    return set(sorted(speakers, key=place.__getitem__)[:count])


def _folded(text: str) -> str:
    """Lower case, letters before their accents; bytes that are no text are written out."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", shown(text)).casefold())


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", _folded(text))


def _named(match: re.Match[str]) -> dict[str, str]:
    return {name: _composed(value) for name, value in match.groupdict().items()}


def _plain(text: str) -> str:
    """`_folded` without accents."""
    return re.sub(_ACCENTS, "", _folded(text))


def _compiled(pattern: str, words: Sequence[str], lazy: str) -> re.Pattern[str]:
    """Of `_folded` names; placeholders take as much as they can, or as little (``"?"``)."""
    allowed = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    parts = re.split(r"\{([^{}]*)\}", pattern)
    literals, names = parts[::2], parts[1::2]

    def refuse(why: str) -> CorpusError:
        return CorpusError(f"pattern {pattern!r}: {why}; placeholders are {allowed}")

    if any("{" in text or "}" in text for text in literals):
        raise refuse("a brace has no partner")
    for name in names:
        if name not in PLACEHOLDERS:
            raise refuse(f"unknown placeholder {{{name}}}")
        if name != "any" and names.count(name) > 1:
            raise refuse(f"{{{name}}} is there more than once")
    for name in ("digit", "speaker"):
        if name not in names:
            raise refuse(f"{{{name}}} is missing")
    if "" in literals[1:-1]:
        raise refuse("two placeholders have nothing between them")
    if any(part in ("", ".", "..") for part in pattern.split("/")):
        raise refuse("it must be a path within the folder, without empty parts, . and ..")
    if "*" in pattern or "\\" in pattern:
        raise refuse("* and \\ mean nothing, and folders are divided by /")
    spoken = ("".join(re.escape(c) + _ACCENTS for c in _plain(word)) for word in words)
    kinds = {"digit": "|".join(["[0-9]", *spoken]), "split": "train|test"}
    regex = re.escape(_folded(literals[0]))
    for name, literal in zip(names, literals[1:], strict=True):
        kind = kinds.get(name, f"[^/]+{lazy}")
        regex += f"(?:{kind})" if name == "any" else f"(?P<{name}>{kind})"
        regex += re.escape(_folded(literal))
    return re.compile(regex)


def _sound_files(folder: Path) -> tuple[list[Path], list[Problem]]:
    """Sound files below the folder, in order of path, each folder listed once."""
    paths: list[Path] = []
    problems: list[Problem] = []
    # Linked folders wait until all others are done, or they would hide the place they link to.
    waiting, linked, seen = deque([folder]), deque[Path](), set()
    while waiting or linked:
        here = (waiting or linked).popleft()
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(here) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            reason = f"{shown(here)}: cannot be listed ({error.strerror})"
            if here == folder:
                raise CorpusError(reason) from error
            kind = "no permission" if isinstance(error, PermissionError) else "unreadable"
            problems.append(Problem(shown(here.relative_to(folder)), kind, reason))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = here / entry.name
            if os.path.isdir(path):
                (linked if entry.is_symlink() else waiting).append(path)
            elif path.suffix.lower() in SOUNDS and os.path.isfile(path):
                paths.append(path)
            elif path.suffix.lower() in SOUNDS:
                reason = f"{shown(path)}: is not a file, or a link that leads nowhere"
                problems.append(Problem(shown(path.relative_to(folder)), "not a file", reason))
    return sorted(paths), problems
