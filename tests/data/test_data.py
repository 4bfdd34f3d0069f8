"""Examples are paired by class, normalised and put into batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.data.pairing import pair_by_class
from tests.support.tiny import tiny_examples, tiny_loader

LABELS = {"speech": np.array([0, 1, 1, 2, 0]), "image": np.array([2, 2, 1, 0, 0, 0, 1, 1])}


def test_pairs_are_of_one_class_and_a_function_of_seed_and_epoch():
    def images(seed, epoch):
        pairs = pair_by_class(LABELS, seed, epoch)
        assert pairs["speech"].tolist() == [0, 1, 2, 3, 4]
        assert (LABELS["image"][pairs["image"]] == LABELS["speech"]).all()
        return pairs["image"].tolist()

    assert images(0, 3) == images(0, 3)
    assert len({tuple(images(0, epoch)) for epoch in range(20)}) > 5
    assert len({tuple(images(seed, 0)) for seed in range(20)}) > 5


def test_nothing_is_drawn_twice_before_all_are_drawn_once():
    few = {"a": np.zeros(7, int), "b": np.zeros(3, int)}
    counts = np.bincount(pair_by_class(few, 0, 0)["b"], minlength=3)
    assert sorted(counts.tolist()) == [2, 2, 3]


def test_class_without_a_partner_is_an_error():
    with pytest.raises(ValueError, match="image has no example of class 2"):
        pair_by_class({"speech": np.array([2]), "image": np.array([0, 1])}, 0, 0)


def test_observation_normalises_and_pads():
    examples = Examples(
        np.arange(8, dtype=np.float32).reshape(4, 2),
        np.array([0, 1]),
        Normalisation(np.array([1.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32)),
        offsets=np.array([0, 1, 4]),
    )
    observation = examples.observation(np.array([0, 1]))
    assert observation.lengths.tolist() == [1, 3]
    assert observation.value.tolist() == [
        [[-0.5, 1.0], [0.0, 0.0], [0.0, 0.0]],
        [[0.5, 3.0], [1.5, 5.0], [2.5, 7.0]],
    ]


def test_taken_examples_are_those_at_the_index_in_its_order():
    examples = tiny_examples()
    speech = replace(examples["speech"], groups=[f"s{n}" for n in range(23)])
    index = np.array([7, 2, 2, 19])
    taken = speech.take(index)
    assert taken.labels.tolist() == [1, 2, 2, 1]
    assert taken.lengths.tolist() == speech.lengths[index].tolist()
    assert taken.names == ["speech7", "speech2", "speech2", "speech19"]
    assert taken.groups == ["s7", "s2", "s2", "s19"]
    own, whole = taken.observation(np.arange(4)), speech.observation(index)
    assert torch.equal(own.value, whole.value)
    images = examples["image"]
    taken = images.take(index)
    assert (taken.values == images.values[index]).all()
    assert taken.labels.tolist() == [1, 2, 2, 1]
    assert (taken.names, taken.groups, taken.offsets) == ((), (), None)
    assert taken.normalisation is images.normalisation


@pytest.mark.parametrize("name", ["speech", "image"])
def test_no_example_can_be_taken(name):
    examples = tiny_examples()[name]
    none = examples.take(np.array([], int))
    assert len(none) == 0
    assert none.values.shape == (0, *examples.values.shape[1:])


def test_disagreeing_counts_are_refused():
    with pytest.raises(ValueError, match="3 examples but 2 labels"):
        Examples(np.zeros((3, 1)), np.zeros(2, int), Normalisation(np.zeros(1), np.ones(1)))


def test_epoch_visits_every_example_once_and_holds_no_label():
    loader = tiny_loader(batch_size=5)
    batches = list(loader.epoch(0))
    assert len(batches) == len(loader) == 5
    lengths = np.concatenate([batch["speech"].lengths for batch in batches])
    assert sorted(lengths) == sorted(tiny_examples()["speech"].lengths)
    assert set(batches[0]) == {"speech", "image"}
    assert vars(batches[0]["image"]).keys() == {"value", "lengths", "present"}


def test_epoch_can_be_taken_up_in_the_middle():
    loader = tiny_loader(batch_size=5)
    whole, rest = list(loader.epoch(2)), list(loader.epoch(2, start=3))
    assert len(rest) == 2
    for a, b in zip(whole[3:], rest, strict=True):
        assert all(torch.equal(a[name].value, b[name].value) for name in a)
    other = next(iter(loader.epoch(3)))
    assert not torch.equal(other["image"].value, whole[0]["image"].value)


@pytest.mark.parametrize("name", ["speech", "image"])
def test_models_of_different_modalities_see_the_same_examples_in_the_same_order(name):
    whole = list(tiny_loader(batch_size=5).epoch(2))
    loader = tiny_loader(batch_size=5, names=[name])
    assert loader.num_examples == 23  # the speech leads, even where it is left out
    for both, alone in zip(whole, loader.epoch(2), strict=True):
        assert list(alone) == [name]
        assert torch.equal(alone[name].value, both[name].value)
    in_their_order = tiny_loader(names=["image", "speech"])
    assert list(next(iter(in_their_order.epoch(0)))) == ["speech", "image"]
