"""What a file is that has a sound's name and holds something else."""

import re

# What files begin with, and what is to be done about them.
_KNOWN = (
    (rb"version https://git-lfs", "is a Git LFS pointer, not the sound: run git lfs pull"),
    (rb"/annex/objects/", "is a git-annex pointer, not the sound: run git annex get"),
    (rb"(?is)(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head)",
     "is an HTML page, not a sound: the download got an error page"),
    (rb"(?s)....ftyp", "is MPEG-4 (M4A) sound: convert it to WAV or FLAC"),
    (rb"\xff[\xf0\xf1\xf8\xf9]", "is AAC sound: convert it to WAV or FLAC"),
    (rb"\x1aE\xdf\xa3", "is Matroska or WebM sound: convert it to WAV or FLAC"),
    (rb"\x30\x26\xb2\x75", "is Windows Media (WMA) sound: convert it to WAV or FLAC"),
    (rb"#!AMR", "is AMR sound: convert it to WAV or FLAC"),
    (rb"wvpk", "is WavPack sound: convert it to WAV or FLAC"),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "is a compressed archive, not a sound: unpack it"),
    (rb"\x00\x05\x16\x07", "is what macOS writes beside a file (._…), not the sound: leave it out"),
    (rb"\x00{64}", "begins with zeros, not with a sound: was its download or copy broken off?"),
)  # fmt: skip
_TEXT = re.compile(rb"[\t\r\n\x20-\x7e]{16,}\Z")


def other_kind(start: bytes) -> str | None:
    """What a file beginning like this is and what to do, to follow its name; None: not known."""
    for pattern, told in _KNOWN:
        if re.match(pattern, start):
            return told
    if _TEXT.match(start):
        return f"is text, not a sound: it begins with {start[:40].decode()!r}"
    return None
