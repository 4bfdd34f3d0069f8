"""The data sets by name, as the experiments get them."""

import logging

import numpy as np
import pytest

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.paired import load_paired


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PVAE_OFFLINE", "1")


@pytest.mark.usefixtures("cache")
def test_stand_in_says_so_and_is_whole(tmp_path, caplog):
    pytest.importorskip("espeakng_loader")
    with caplog.at_level(logging.WARNING):
        data = load_paired("secuvoice", tmp_path, limit=3)
    assert data.stand_in
    assert "eSpeak" in data.corpus
    assert "Spanish" in data.corpus
    assert "SECUVOICE is licensed" in caplog.text
    assert data.classes == tuple("0123456789")
    for partition in (data.train, data.test):
        assert list(partition) == ["speech", "image"]
        assert np.bincount(partition["speech"].labels).tolist() == [3] * 10
        assert sorted(set(partition["image"].labels.tolist())) == list(range(10))
    assert not set(data.train["speech"].groups) & set(data.test["speech"].groups)
    assert (len(data.train["image"]), len(data.test["image"])) == (4000, 1000)


@pytest.mark.usefixtures("cache")
def test_features_are_normalised_on_the_training_partition(tmp_path):
    pytest.importorskip("espeakng_loader")
    data = load_paired("tidigit", tmp_path, limit=4)
    train, test = data.train["speech"], data.test["speech"]
    frames = train.normalisation.apply(train.values)
    np.testing.assert_allclose(frames.mean(0), 0.0, atol=1e-3)
    np.testing.assert_allclose(frames.std(0), 1.0, atol=1e-3)
    assert test.normalisation is train.normalisation
    pixels = data.train["image"].observation(np.arange(50)).value
    assert pixels.shape == (50, 1, 28, 28)
    assert (pixels.min().item(), pixels.max().item()) == (0.0, 1.0)


@pytest.mark.usefixtures("cache")
def test_real_digits(data_root):
    data = load_paired("fsdd", data_root)
    assert not data.stand_in
    assert data.corpus == "FSDD + MNIST"
    assert (len(data.train["speech"]), len(data.test["speech"])) == (2700, 300)
    assert (len(data.train["image"]), len(data.test["image"])) == (60000, 10000)
    assert len(set(data.test["speech"].groups)) == 6


@pytest.mark.parametrize("dataset", ["tidigit", "secuvoice"])
def test_require_corpus(dataset, tmp_path):
    with pytest.raises(CorpusError, match="--require-corpus was given"):
        load_paired(dataset, tmp_path, require_corpus=True)


def test_unknown_name(tmp_path):
    with pytest.raises(CorpusError, match="choose from tidigit, secuvoice, fsdd"):
        load_paired("timit", tmp_path)
