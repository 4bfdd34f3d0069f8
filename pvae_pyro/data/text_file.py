"""Text files from anyone: UTF-8, or what Excel and Windows call Unicode."""

import codecs
import os
from pathlib import Path

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.errors import shown


def read_text(path: str | os.PathLike[str]) -> str:
    """A file's text: UTF-8 or UTF-16, with a byte order mark or without.

    Raises CorpusError naming the file, and the line where it is neither.
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise CorpusError(f"{shown(path)}: cannot be read ({reason})") from error
    try:
        return content.decode(_encoding(content))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise CorpusError(
            f"{shown(path)}:{line}: is not UTF-8 text ({error.reason}): save it as CSV UTF-8, "
            "or convert it"
        ) from error


def _encoding(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if content[1:2] == b"\0":  # without a mark, of a letter that is ASCII
        return "utf-16-le"
    return "utf-16-be" if content[:1] == b"\0" else "utf-8-sig"
