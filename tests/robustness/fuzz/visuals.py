"""Pictures, and MNIST's own files."""

import gzip
import hashlib
import io
import random
import struct
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pvae_pyro.data.corpora import mnist
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.pictures import reading as pictures
from pvae_pyro.report.page import figure
from tests.robustness.fuzz.mutate import mutated, with_png_checksums, with_png_data, zipped
from tests.robustness.fuzz.reader import Reader, check_named


def _written(kind: str, mode: str = "L", size: tuple[int, int] = (24, 30), **how: Any) -> bytes:
    rng = np.random.default_rng(2)
    grey = np.full(size, 230, np.uint8)
    grey[6:20, 10:14] = 20
    grey += rng.integers(0, 12, size).astype(np.uint8)
    image = Image.fromarray(grey)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode != "L":
        image = image.convert(mode)
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


_EXIF = Image.Exif()
_EXIF[0x0112] = 6
PNG = [
    _written("PNG"),
    _written("PNG", "RGB"),
    _written("PNG", "RGBA"),
    _written("PNG", "P"),
    _written("PNG", "1"),
    _written("PNG", "LA"),
    _written("PNG", "I;16"),
    _written("PNG", exif=_EXIF),
    _written("PNG", transparency=230),
]
JPEG = [
    _written("JPEG"),
    _written("JPEG", "RGB", progressive=True),
    _written("JPEG", "CMYK"),
    _written("JPEG", exif=_EXIF),
]
OTHERS = [
    _written("GIF", "P"),
    _written("BMP"),
    _written("BMP", "RGB"),
    _written("TIFF"),
    _written("TIFF", "RGB", compression="tiff_lzw"),
    _written("TIFF", "I;16", compression="tiff_deflate"),
    _written("WEBP", "RGB"),
    _written("WEBP", "RGBA", lossless=True),
    _written("PPM"),
]
_WORDS = (
    *(b"\x89PNG\r\n\x1a\n", b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"zTXt", b"iTXt"),
    *(
        b"eXIf",
        b"acTL",
        b"fcTL",
        b"gAMA",
        b"sRGB",
        b"\xff\xd8",
        b"\xff\xc0",
        b"\xff\xda",
        b"Exif\0\0",
    ),
    *(b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"WEBPVP8 ", b"VP8L", b"VP8X", b"P5", b"P6"),
    *(b"8BPS", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\0\0\1\0", b"\x0a\5\1\1"),
)


def _prepare(name: str, folder: Path) -> Callable[[bytes], None]:
    path = folder / name

    def read(content: bytes) -> None:
        path.write_bytes(content)
        grey = pictures.read_grey(path)
        assert grey.ndim == 2
        made = [pictures.square(grey)]
        try:
            made.append(pictures.as_mnist(grey, str(path)))
        except CorpusError as error:
            check_named(error, path)
        for pixels in made:
            assert pixels.shape == (28, 28)
            assert pixels.dtype == np.uint8

    return read


def _prepare_figure(folder: Path) -> Callable[[bytes], None]:
    path = folder / "curves.png"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        assert figure(path, "a figure").startswith("<figure>")

    return read


def _bytes(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    return mutated(rng, seeds, _WORDS)


def _png(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Bytes; chunks under right checksums; or what is packed in them, packed again."""
    kind = rng.random()
    if kind < 0.4:
        packed = with_png_data(rng.choice(seeds), lambda data: mutated(rng, [data]))
        return with_png_checksums(mutated(rng, [packed], _WORDS)) if kind < 0.2 else packed
    content = _bytes(rng, seeds)
    return with_png_checksums(content) if kind < 0.8 else content


_IDX = {
    "train-images-idx3-ubyte": struct.pack(">4I", 0x803, 7, 28, 28) + bytes(range(196)) * 28,
    "train-labels-idx1-ubyte": struct.pack(">2I", 0x801, 7) + bytes(range(7)),
    "t10k-images-idx3-ubyte": struct.pack(">4I", 0x803, 3, 28, 28) + bytes(range(196)) * 12,
    "t10k-labels-idx1-ubyte": struct.pack(">2I", 0x801, 3) + bytes(range(3)),
}


def _prepare_mnist(folder: Path) -> Callable[[bytes], None]:
    """One of the four is changed: plain if it does not begin as gzip does."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in _IDX.items():
        (raw / name).write_bytes(content)
    pinned = {name: hashlib.sha256(content).hexdigest() for name, content in _IDX.items()}

    def read(content: bytes) -> None:
        packed = content.startswith(b"\x1f\x8b")
        plain = gzip.decompress(content) if content in _PACKED else content
        changed = next((n for n, good in _IDX.items() if good == plain), "t10k-images-idx3-ubyte")
        path, other = (raw / f"{changed}{end}" for end in ((".gz", "") if packed else ("", ".gz")))
        other.unlink(missing_ok=True)
        path.write_bytes(content)
        known, mnist.FILES = mnist.FILES, pinned
        try:
            corpus = mnist.mnist_corpus(folder, download=False)
        finally:
            mnist.FILES = known
            (raw / changed).write_bytes(_IDX[changed])
            (raw / f"{changed}.gz").unlink(missing_ok=True)
        assert not corpus.stand_in
        assert corpus.images["train"].tobytes() == _IDX["train-images-idx3-ubyte"][16:]
        assert corpus.images["test"].tobytes() == _IDX["t10k-images-idx3-ubyte"][16:]

    return read


_PACKED = {zipped(content) for content in _IDX.values()}


@cache
def _bomb() -> bytes:
    """Half a gigabyte, in half a megabyte."""
    return gzip.compress(bytes(1 << 29), 1)


def _idx(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    kind = rng.random()
    if kind < 0.02:
        return _bomb()
    if kind < 0.4:
        return zipped(mutated(rng, list(_IDX.values())))
    return mutated(rng, seeds, (b"\x1f\x8b\x08\0",))


_LARGEST = 384 << 20  # the largest picture takes 336: docs/trust.md


VISUALS = [
    Reader("figure of a report", _prepare_figure, PNG, _png, (OSError,), "curves.png"),
    Reader("PNG", partial(_prepare, "a.png"), PNG, _png, (CorpusError,), "a.png", _LARGEST),
    Reader("JPEG", partial(_prepare, "a.jpg"), JPEG, _bytes, (CorpusError,), "a.jpg", _LARGEST),
    Reader(
        "GIF, BMP, TIFF, WebP, PPM",
        partial(_prepare, "a.tif"),
        OTHERS,
        _bytes,
        (CorpusError,),
        "a.tif",
        _LARGEST,
    ),
    Reader(
        "IDX",
        _prepare_mnist,
        [*_IDX.values(), *sorted(_PACKED)],
        _idx,
        (CorpusError,),
        "-ubyte",
    ),
]
