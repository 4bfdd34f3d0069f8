"""A validation part of the training partition."""

from dataclasses import replace

import numpy as np
import pytest

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.hold_out import hold_out
from pvae_pyro.data.paired import PairedData
from tests.support.tiny import tiny_examples


def numbered(num_speech, num_images, seed):
    """Examples whose groups are their own numbers."""
    return {
        name: replace(examples, groups=[str(n) for n in range(len(examples))])
        for name, examples in tiny_examples(num_speech, num_images, seed=seed).items()
    }


@pytest.fixture
def data():
    return PairedData(
        "tiny", False, ("x", "y", "z"), numbered(43, 61, 0), numbered(8, 9, 1), remarks=("one",)
    )


def numbers(examples):
    return [int(group) for group in examples.groups]


def test_both_parts_together_are_the_training_partition(data):
    held = hold_out(data, 0.25)
    for name, examples in data.train.items():
        rest, part = numbers(held.train[name]), numbers(held.test[name])
        assert not set(rest) & set(part)
        assert sorted(rest + part) == list(range(len(examples)))
        # Each keeps its label and its values, and its place among the others.
        for index, some in ((rest, held.train[name]), (part, held.test[name])):
            assert index == sorted(index)
            assert some.labels.tolist() == examples.labels[index].tolist()
            assert some.normalisation is examples.normalisation
            whole, taken = (
                examples.observation(np.array(index)),
                some.observation(np.arange(len(some))),
            )
            assert (whole.value == taken.value).all()


@pytest.mark.parametrize(("fraction", "sizes"), [(0.25, [4, 4, 4]), (0.1, [2, 1, 1])])
def test_each_class_gives_its_part(data, fraction, sizes):
    """43 are 15, 14 and 14 of the three classes: rounded to the nearest number, the even one
    of two, and one at least."""
    held = hold_out(data, fraction)
    expected = [max(1, round(fraction * n)) for n in (15, 14, 14)]
    assert expected == sizes
    assert np.bincount(held.test["speech"].labels).tolist() == sizes
    assert np.bincount(hold_out(data, 0.001).test["image"].labels).tolist() == [1, 1, 1]


def test_it_is_a_function_of_the_seed(data):
    one, again, other = (hold_out(data, 0.3, seed) for seed in (0, 0, 1))
    for name in data.train:
        assert numbers(one.test[name]) == numbers(again.test[name])
        assert numbers(one.test[name]) != numbers(other.test[name])
    # Drawn, and not the first or the last of a class.
    of_class = np.flatnonzero(data.train["speech"].labels == 0)
    chosen = sorted(set(numbers(one.test["speech"])) & set(of_class.tolist()))
    assert chosen not in (of_class[:4].tolist(), of_class[-4:].tolist())


def test_the_test_partition_is_left_out_and_left_alone(data):
    before = data.digest()
    held = hold_out(data, 0.25)
    assert data.digest() == before
    other = replace(data, test=numbered(5, 6, 7))
    assert hold_out(other, 0.25).digest() == held.digest()
    assert (held.corpus, held.stand_in, held.classes) == ("tiny", False, ("x", "y", "z"))
    assert held.remarks[0] == "one"
    assert "scored on 0.25 of the training partition" in held.remarks[1]


def test_the_digest_tells_them_apart(data):
    digests = {data.digest(), *(hold_out(data, fraction).digest() for fraction in (0.1, 0.25))}
    assert len(digests) == 3
    assert hold_out(data, 0.25).digest() in digests


def test_a_class_too_small_is_named(data):
    speech = data.train["speech"]
    index = np.flatnonzero(speech.labels != 1)
    few = speech.take(np.append(index, 1))  # one example of class y
    with pytest.raises(CorpusError, match=r"tiny: class y of speech .* \(1\) to hold out 0\.25"):
        hold_out(replace(data, train={**data.train, "speech": few}), 0.25)
    two = speech.take(np.append(index, [1, 4]))
    held = hold_out(replace(data, train={**data.train, "speech": two}), 0.5)
    assert np.bincount(held.test["speech"].labels)[1] == 1
