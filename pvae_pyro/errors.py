"""The base class of all documented errors, and text that is safe to print."""

import os


class PvaeError(Exception):
    """An error whose message tells a user what is wrong, where, and what to do."""


def shown(text: str | os.PathLike[str], keep: str = "") -> str:
    """Any text or path, with characters escaped that cannot be printed safely.

    A terminal would obey control characters, and others change the direction of a line or start a
    new one. keep: characters that are not escaped.
    """
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in os.fsdecode(text))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # Python's stand-in for a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
