"""The recordings of a folder, known by their names."""

import re
from pathlib import Path

from pvae_pyro.data.corpus import CorpusError, Problem
from pvae_pyro.errors import shown


def named_files(
    folder: Path, pattern: re.Pattern[str], named: str
) -> tuple[list[tuple[Path, re.Match[str]]], list[Problem]]:
    """Files of `folder` whose whole name matches, in order of name, and problems with the rest.

    named: the pattern in words, for messages (``"digit_speaker_index.wav"``).

    Hidden files are passed over; anything else is a problem of kind ``"name"``. Raises
    `CorpusError` for a folder that cannot be listed.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise CorpusError(f"{shown(folder)}: cannot be listed ({error.strerror})") from error
    found: list[tuple[Path, re.Match[str]]] = []
    problems: list[Problem] = []
    for path in paths:
        match = pattern.fullmatch(path.name)
        if match is None or path.is_dir():
            reason = f"{shown(path)}: not a recording named {named}"
            problems.append(Problem(shown(path.name), "name", reason))
        else:
            found.append((path, match))
    return found, problems
