"""Judges: they learn, padding has no influence, and each is kept for its own data."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pvae_pyro.batch import Observation
from pvae_pyro.data.corpora.registry import image_corpus
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.evaluate.judges import (
    cached_judge,
    judge_accuracy,
    judge_features,
    judged,
    train_judge,
)
from pvae_pyro.nn.classifiers import SequenceJudge
from tests.support.tiny import tiny_batch, tiny_examples


@pytest.mark.parametrize("name", ["speech", "image"])
def test_a_judge_learns_its_classes(name):
    train, test = tiny_examples(120, 120)[name], tiny_examples(60, 60, seed=1)[name]
    judge = train_judge(train, 3, steps=60, batch_size=32)
    assert not judge.training
    # Frames of a few examples are ambiguous: their class shifts the mean by half a deviation.
    assert judge_accuracy(judge, test) > 0.8
    assert judge_accuracy(judge, test, chunk=7) == judge_accuracy(judge, test)


@torch.no_grad()
def test_padding_has_no_influence():
    judge = SequenceJudge(6, 3).eval()
    logits = judge(tiny_batch(9)["speech"])
    padded = tiny_batch(9, padding=5)["speech"]
    unused = torch.arange(padded.value.shape[1]) >= padded.lengths[:, None]
    padded.value[unused] = float("nan")
    torch.testing.assert_close(judge(padded), logits)
    alone = Observation(padded.value[:1], padded.lengths[:1])
    torch.testing.assert_close(judge(alone), logits[:1])
    np.testing.assert_array_equal(judged(judge, padded, chunk=2), logits.argmax(1).numpy())


@pytest.mark.parametrize("name", ["speech", "image"])
@torch.no_grad()
def test_features_are_what_the_last_layer_sees(name):
    examples = tiny_examples()[name]
    judge = train_judge(examples, 3, steps=2)
    observation = examples.observation(np.arange(len(examples)))
    features = torch.from_numpy(judge_features(judge, observation, chunk=4))
    last = [layer for layer in judge.modules() if isinstance(layer, torch.nn.Linear)][-1]
    torch.testing.assert_close(last(features), judge(observation))


def test_a_judge_depends_on_the_seed_alone():
    train = tiny_examples()["image"]
    before = torch.get_rng_state()
    first = train_judge(train, 3, seed=1, steps=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    second = train_judge(train, 3, seed=1, steps=3)
    other = train_judge(train, 3, seed=2, steps=3)
    observation = tiny_batch()["image"]
    with torch.no_grad():
        torch.testing.assert_close(first(observation), second(observation), rtol=0, atol=0)
        assert not torch.allclose(first(observation), other(observation), atol=1e-3)


def test_a_judge_is_trained_once_for_its_data_and_settings(tmp_path, monkeypatch):
    train = tiny_examples()["image"]
    first = cached_judge(train, 3, tmp_path, steps=3)
    with monkeypatch.context() as patch:
        patch.setattr("pvae_pyro.data.cache.write_whole", None)
        second = cached_judge(train, 3, tmp_path, steps=3)
    assert not second.training
    observation = tiny_batch()["image"]
    with torch.no_grad():
        torch.testing.assert_close(first(observation), second(observation))
    others = [
        replace(train, labels=train.labels[::-1].copy()),
        replace(train, values=train.values + 1),
        replace(train, normalisation=Normalisation(np.float32(0), np.float32(1))),
    ]
    for number, other in enumerate(others, start=2):
        cached_judge(other, 3, tmp_path, steps=3)
        assert len(list(tmp_path.iterdir())) == number
    cached_judge(train, 3, tmp_path, steps=4)
    assert len(list(tmp_path.iterdir())) == 5


def test_real_pictures_sharp_and_blurred(data_root):
    """Pictures as soft as a decoder's are judged as well as sharp ones."""
    corpus = image_corpus("mnist", data_root, {})
    parts = {
        split: Examples(
            corpus.images[split][:size],
            corpus.labels[split][:size].astype(int),
            Normalisation(np.float32(0), np.float32(255)),
        )
        for split, size in (("train", 3000), ("test", 500))
    }
    judge = train_judge(parts["train"], 10, steps=100)
    assert judge_accuracy(judge, parts["test"]) > 0.85
    pictures = parts["test"].observation(np.arange(500)).value
    soft = torch.nn.functional.avg_pool2d(pictures, 3, 1, 1)
    assert (judged(judge, Observation(soft)) == parts["test"].labels).mean() > 0.8
