"""Archives made in memory."""

import gzip
import io
import tarfile


def tar_gz(*members: tuple[str | tarfile.TarInfo, bytes]) -> bytes:
    """A gzipped tar archive of members, each a name or a TarInfo, with their contents.

    The same bytes each time: without `mtime`, a gzip header holds the current time.
    """
    file = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, content in members:
            member = tarfile.TarInfo(name) if isinstance(name, str) else name
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()
