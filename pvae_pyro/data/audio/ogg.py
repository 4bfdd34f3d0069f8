"""The streams of an Ogg file: libsndfile reads the first one, and takes a cut one for a whole."""

MAGIC = b"OggS"

_HEADER = 27  # bytes of a page before the sizes of its segments
_FIRST_PAGE, _LAST_PAGE = 0x02, 0x04  # in the page's sixth byte (RFC 3533, section 6)


def streams(content: bytes) -> list[bytes]:
    """The streams that follow one another in a file; none where the last one is cut off, or
    none has its first page.

    RFC 3533, https://www.rfc-editor.org/rfc/rfc3533.
    """
    starts: list[int] = []
    at, ended = 0, True
    while at < len(content):
        segments = content[at + 26] if at + 26 < len(content) else 0
        body = at + _HEADER + segments
        end = body + sum(content[at + _HEADER : body])
        if not content.startswith(MAGIC, at) or end > len(content):
            return []
        if content[at + 5] & _FIRST_PAGE and ended:
            starts.append(at)
        ended = bool(content[at + 5] & _LAST_PAGE)
        at = end
    if not ended or not starts:
        return []
    return [content[a:b] for a, b in zip(starts, [*starts[1:], at], strict=True)]
