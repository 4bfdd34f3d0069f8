"""Judges: what they see, that they learn, and that they are kept and told apart."""

import logging

import numpy as np
import pytest
import torch

from pvae_pyro.batch import Observation
from pvae_pyro.data.corpora.registry import image_corpus
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.evaluate.judges import cached_judge, judge_accuracy, judged, train_judge
from pvae_pyro.nn.classifiers import PictureJudge, SequenceJudge, _blurred, _stretched
from tests.support.tiny import tiny_batch, tiny_examples


@pytest.mark.parametrize("name", ["speech", "image"])
def test_a_judge_learns_its_classes(name):
    train, test = tiny_examples(120, 120)[name], tiny_examples(60, 60, seed=1)[name]
    judge = train_judge(train, 3, steps=60, batch_size=32)
    assert not judge.training
    # Frames of a few examples are ambiguous: their class shifts the mean by half a deviation.
    assert judge_accuracy(judge, test) > 0.8
    assert judge_accuracy(judge, test, chunk=7) == judge_accuracy(judge, test)


@pytest.mark.parametrize("filler", [float("nan"), 1e6])
@torch.no_grad()
def test_padding_has_no_influence(filler):
    judge = SequenceJudge(6, 3).eval()
    logits = judge(tiny_batch(9)["speech"])
    padded = tiny_batch(9, padding=5)["speech"]
    unused = torch.arange(padded.value.shape[1]) >= padded.lengths[:, None]
    padded.value[unused] = filler
    torch.testing.assert_close(judge(padded), logits)
    alone = Observation(padded.value[:1], padded.lengths[:1])
    torch.testing.assert_close(judge(alone), logits[:1])


def test_padding_has_no_influence_on_how_examples_are_varied():
    judge = SequenceJudge(6, 3)
    values = []
    for padding, filler in ((0, 0.0), (0, 1e6)):
        torch.manual_seed(0)
        values.append(judge.varied(tiny_batch(9, padding, filler)["speech"]))
    torch.testing.assert_close(values[0].value, values[1].value)
    unused = torch.arange(values[0].value.shape[1]) >= values[0].lengths[:, None]
    assert (values[0].value[unused] == 0).all()


@torch.no_grad()
def test_frames_in_use_all_have_influence():
    judge = SequenceJudge(6, 3).eval()
    batch = tiny_batch(9)["speech"]
    logits = judge(batch)
    last = batch.lengths - 1
    batch.value[torch.arange(9), last] += 3.0
    assert ((judge(batch) - logits).abs().amax(1) > 1e-4).all()


def test_stretching_keeps_both_ends_and_interpolates():
    ramp = torch.arange(10.0).view(1, 10, 1).repeat(200, 1, 1)
    value, lengths = _stretched(ramp, torch.full((200,), 10))
    assert set(lengths.tolist()) == {8, 9, 10, 11, 12}
    for row, length in zip(value, lengths.tolist(), strict=True):
        torch.testing.assert_close(row[:length, 0], torch.linspace(0, 9, length))


def test_blurring_a_point_and_a_constant():
    torch.manual_seed(0)
    point = torch.zeros(50, 1, 9, 9)
    point[:, :, 4, 4] = 1.0
    blurred = _blurred(point, torch.ones_like(point))
    assert (blurred[:, 0, 4, 4] < 1).all()
    torch.testing.assert_close(blurred.sum((1, 2, 3)), torch.ones(50))  # far from the edges
    used = torch.zeros(1, 1, 9, 9)
    used[:, :, :5] = 1.0
    torch.testing.assert_close(_blurred(3 * used, used), 3 * used)  # nothing leaks in or out


def test_judging_is_by_the_examples_not_by_the_chunks():
    judge = SequenceJudge(6, 3).eval()
    observation = tiny_batch(9)["speech"]
    classes = judged(judge, observation)
    assert classes.shape == (9,)
    np.testing.assert_array_equal(judged(judge, observation, chunk=2), classes)
    np.testing.assert_array_equal(classes, judge(observation).argmax(1).numpy())


def test_a_judge_depends_on_the_seed_alone():
    train = tiny_examples()["image"]
    before = torch.get_rng_state()
    first = train_judge(train, 3, seed=1, steps=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    with torch.no_grad():
        second = train_judge(train, 3, seed=1, steps=3)
    other = train_judge(train, 3, seed=2, steps=3)
    observation = tiny_batch()["image"]
    with torch.no_grad():
        torch.testing.assert_close(first(observation), second(observation), rtol=0, atol=0)
        assert not torch.allclose(first(observation), other(observation), atol=1e-3)


def test_only_so_many_examples_are_used():
    """Those left out are of another class, which the judge then never names."""
    train = tiny_examples(num_images=60)["image"]
    kept = np.random.default_rng(0).permutation(60)[:20]
    train.labels[:] = 1
    train.labels[kept] = 0
    judge = train_judge(train, 2, steps=40, limit=20)
    assert (judged(judge, train.observation(np.arange(60))) == 0).all()


def test_what_cannot_be_judged():
    train = tiny_examples()["image"]
    with pytest.raises(ValueError, match="a judge of 2 classes"):
        train_judge(train, 2, steps=1)
    with pytest.raises(ValueError, match="a judge of 3 classes"):
        train_judge(train.take(np.array([], int)), 3, steps=1)
    flat = Examples(np.zeros((4, 5, 2)), np.zeros(4, int), Normalisation(np.zeros(()), np.ones(())))
    with pytest.raises(ValueError, match=r"got \(5, 2\)"):
        train_judge(flat, 3, steps=1)
    with pytest.raises(ValueError, match="lengths"):
        SequenceJudge(6, 3)(Observation(torch.zeros(2, 9, 6)))


@pytest.mark.parametrize("name", ["speech", "image"])
def test_a_judge_is_trained_once(name, tmp_path, monkeypatch):
    train = tiny_examples()[name]
    first = cached_judge(train, 3, tmp_path, seed=4, steps=3)
    assert len(list(tmp_path.iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr("pvae_pyro.evaluate.judges.train_judge", None)
        before = torch.get_rng_state()
        second = cached_judge(train, 3, tmp_path, seed=4, steps=3)
        assert torch.equal(torch.get_rng_state(), before)
    observation = tiny_batch()[name]
    assert not second.training
    with torch.no_grad():
        torch.testing.assert_close(first(observation), second(observation))
        fresh = train_judge(train, 3, seed=4, steps=3)
        torch.testing.assert_close(fresh(observation), second(observation))


def test_a_judge_of_other_data_or_settings_is_another(tmp_path):
    train = tiny_examples()["image"]
    other = tiny_examples()["image"]
    other.labels[:] = other.labels[::-1].copy()
    values = tiny_examples()["image"]
    values.values[7, 0, 3, 3] += 1
    scaled = Examples(
        train.values, train.labels, Normalisation(np.float32(0), np.float32(1)), names=train.names
    )
    for number, (examples, settings) in enumerate(
        [
            (train, {}),
            (other, {}),
            (values, {}),
            (scaled, {}),
            (train, {"seed": 1}),
            (train, {"limit": 9}),
        ]
    ):
        cached_judge(examples, 3, tmp_path, **{"steps": 1, **settings})
        assert len(list(tmp_path.iterdir())) == number + 1
    cached_judge(train, 3, tmp_path, steps=1)
    assert len(list(tmp_path.iterdir())) == 6


def test_a_damaged_file_is_mended(tmp_path, caplog):
    train = tiny_examples()["image"]
    judge = cached_judge(train, 3, tmp_path, steps=2)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-8])
    with caplog.at_level(logging.WARNING):
        again = cached_judge(train, 3, tmp_path, steps=2)
    assert "is damaged" in caplog.text
    observation = tiny_batch()["image"]
    with torch.no_grad():
        torch.testing.assert_close(judge(observation), again(observation))


def test_real_pictures_sharp_and_blurred(data_root):
    """What a short training reaches; pictures as soft as a decoder's are judged as well."""
    corpus = image_corpus("mnist", data_root, {})
    parts = {
        split: Examples(
            corpus.images[split][:size, None],
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


def test_the_networks_take_other_sizes():
    assert PictureJudge(3, 4)(Observation(torch.rand(2, 3, 40, 33))).shape == (2, 4)
    assert SequenceJudge(5, 4)(
        Observation(torch.rand(2, 1, 5), torch.ones(2, dtype=int))
    ).shape == (
        2,
        4,
    )
