"""Different spellings of the same name: of classes, speakers and files."""

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from pvae_pyro.errors import shown

# Of no width, and of no meaning in any script: zero-width space, word joiner, byte order mark,
# soft hyphen, marks of direction. The joiners of Persian and of Indian scripts do have one.
_UNSEEN = dict.fromkeys(map(ord, "\u200b\u2060\ufeff\u00ad\u200e\u200f"))
_MOST = 5


def tidied(text: str) -> str:
    """In Unicode's normal form C, with single plain spaces and no invisible characters."""
    return " ".join(unicodedata.normalize("NFC", text.translate(_UNSEEN)).split())


def look_alike(*names: Iterable[str]) -> list[list[str]]:
    """Groups of different names that differ in case, separators or the form of a number alone."""
    alike: dict[str, set[str]] = {}
    for name in chain(*names):
        alike.setdefault(_folded(name), set()).add(name)
    return [sorted(group) for group in alike.values() if len(group) > 1]


def look_alike_lines(what: str, counts: Mapping[str, int]) -> list[str]:
    """A sentence for each of the first few groups; `what` are the names of (``"classes"``)."""
    groups = look_alike(counts)
    lines = [
        f"{what} {' and '.join(f'{shown(repr(n))} ({counts[n]:,})' for n in group)} look alike: "
        "if they are the same, write them the same"
        for group in groups[:_MOST]
    ]
    rest = len(groups) - _MOST
    return [*lines, *([f"{rest} more groups of {what} look alike"] if rest > 0 else [])]


def alike(missing: Sequence[str], there: Sequence[str]) -> str:
    """Which of the classes that exist may be the missing ones in another spelling."""
    groups = [
        g for g in look_alike(missing, there) if set(g) & set(missing) and set(g) & set(there)
    ]
    pairs = ", ".join(" and ".join(map(repr, group)) for group in groups)
    return f" ({pairs} look alike: write them the same)" * bool(groups)


def found_file(folder: Path, name: str) -> Path:
    """``folder / name``, or the existing file whose name is in another normal form of Unicode.

    A Mac's programs, and archives made there, write é as e and an accent; tables do not.
    """
    if os.path.exists(folder / name):
        return folder / name
    found = folder
    for part in Path(name).parts:
        forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        found = next((found / form for form in forms if os.path.exists(found / form)), found / part)
    return found


def _folded(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).casefold().strip()
    try:
        return repr(float(plain.replace(",", ".")))
    except ValueError:
        return re.sub(r"[\s_-]+", " ", plain).strip() or name
