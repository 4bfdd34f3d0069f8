"""The base of all documented errors, and how their text is made fit to be printed."""

import os


class PvaeError(Exception):
    """An error whose message is all that a user needs: what is wrong, where, and what to do."""


def shown(text: str | os.PathLike[str], keep: str = "") -> str:
    """A path, or any text, so that it can be printed and stored, whatever bytes it is made of.

    Control characters are escaped too, for a terminal would obey them; and those that turn the
    direction of a line, or make a new one. keep: characters that are left as they are.
    """
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in os.fsdecode(text))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
