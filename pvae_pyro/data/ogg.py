"""Whether an Ogg file ends where its stream does: libsndfile takes a cut one for a shorter one."""

import os
from typing import BinaryIO

MAGIC = b"OggS"

_HEADER = 27  # bytes of a page before the sizes of its segments
_LARGEST = _HEADER + 255 + 255 * 255
_LAST_PAGE = 0x04  # in the page's sixth byte (RFC 3533, section 6)


def is_whole(file: BinaryIO) -> bool:
    """Whether the file's last page is complete, and marked as the last of its stream.

    RFC 3533, https://www.rfc-editor.org/rfc/rfc3533. The file is left at its start.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _LARGEST))
    end = file.read()
    file.seek(0)
    # The magic may occur in the sound: the last page is the one that ends with the file.
    at = end.rfind(MAGIC)
    while at >= 0:
        segments = end[at + 26] if at + 26 < len(end) else 0
        sizes = end[at + _HEADER : at + _HEADER + segments]
        if at + _HEADER + segments + sum(sizes) == len(end):
            return bool(end[at + 5] & _LAST_PAGE)
        at = end.rfind(MAGIC, 0, at)
    return False
