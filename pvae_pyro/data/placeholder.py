"""Files that stand in the place of data: pointers of Git LFS and git-annex, error pages."""

import re

_KINDS = (
    (rb"version https://git-lfs", "a Git LFS pointer: run git lfs pull"),
    (rb"/annex/objects/", "a git-annex pointer: run git annex get"),
    (rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype )?html", "an HTML page: the download failed"),
)


def placeholder(start: bytes) -> str | None:
    """What a file is in place of data, and what to do, from its first 64 bytes; None if it is not
    one of these."""
    return next((what for pattern, what in _KINDS if re.match(pattern, start)), None)
