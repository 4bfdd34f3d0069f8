"""The synthetic corpus of 35 classes is one that the manifests' readers take."""

import numpy as np
import pytest
from PIL import Image

from pvae_pyro.data.corpora.manifest import manifest_corpus
from pvae_pyro.experiments.bench import many_classes

pytest.importorskip("espeakng_loader")


def test_words_and_characters_of_35_classes(tmp_path, capsys):
    words = [str(tmp_path), "--recordings", "1", "1", "--pictures", "2", "1"]
    assert many_classes.main(words) == 0
    assert "35 classes" in capsys.readouterr().out
    corpus = manifest_corpus(tmp_path / "words.csv")
    assert {r.label for r in corpus.recordings} == set(many_classes.WORDS)
    speakers = {
        s: {r.speaker for r in corpus.recordings if r.split == s} for s in ("train", "test")
    }
    assert not speakers["train"] & speakers["test"]
    samples, rate = corpus.recordings[0].read()
    assert len(samples) > 0.1 * rate
    lines = (tmp_path / "characters.csv").read_text().splitlines()
    assert len(lines) == 1 + 35 * 3
    one, other = (tmp_path / "characters" / "train" / f"A_{n}.png" for n in (0, 1))
    pictures = [np.asarray(Image.open(p)) for p in (one, other)]
    assert all(p.shape == (28, 28) and p.max() > 128 for p in pictures)
    assert (pictures[0] != pictures[1]).any()
