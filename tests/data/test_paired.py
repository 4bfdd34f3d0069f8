"""Columns of data, how they are joined, and a held-out part of the training partition."""

from dataclasses import replace

import numpy as np
import pytest

from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.joining import join
from pvae_pyro.data.paired import PairedData, column_of
from tests.support.tiny import tiny_examples


def vectors(train, test, stand_in=False, name="vectors", **kwargs):
    """Each value tells its class and its place."""
    parts = {}
    for split, labels in (("train", train), ("test", test)):
        values = [[ord(label), 100 * n] for n, label in enumerate(labels)]
        parts[split] = np.array(values, np.float32).reshape(-1, 2), list(labels)
    return column_of(name, parts, stand_in=stand_in, **kwargs)


def only(partition):
    """The examples of a single modality."""
    (examples,) = partition.values()
    return examples


def test_a_column_of_vectors():
    column = vectors("babca", "cab")
    assert column.classes == ("a", "b", "c")
    assert only(column.train).labels.tolist() == [1, 0, 1, 2, 0]
    values = only(column.train).observation(np.arange(5)).value.numpy()
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(values.std(0), 1, atol=1e-5)
    test, train = only(column.test), only(column.train)
    assert test.normalisation is train.normalisation
    plain = only(vectors("babca", "cab", standardise=False).train)
    np.testing.assert_array_equal(plain.observation(np.arange(1)).value, [[98, 0]])


def test_a_column_of_sequences():
    rng = np.random.default_rng(0)
    sequences = [rng.normal(size=(n, 4)).astype(np.float32) for n in (3, 1, 5)]
    column = column_of("s", {"train": (sequences, "aba"), "test": (sequences[:2], "ab")})
    train = only(column.train)
    assert train.lengths.tolist() == [3, 1, 5]
    x = train.observation(np.array([1, 2]))
    assert x.lengths.tolist() == [1, 5]
    scaled = (sequences[2] - np.concatenate(sequences).mean(0)) / np.concatenate(sequences).std(0)
    np.testing.assert_allclose(x.value[1], scaled, rtol=1e-5, atol=1e-6)
    assert (x.value[0, 1:] == 0).all()


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ((np.zeros((0, 2)), []), "the training partition has nothing"),
        ((np.zeros((3, 2)), "ab"), "s, train: 3 values and 2 labels"),
        ((np.array([[0.0], [np.inf]]), "ab"), "s, train: a value is not finite"),
        (([np.zeros((2, 1)), np.zeros((0, 1))], "ab"), "s, train: sequence 1 has no frame"),
    ],
)
def test_impossible_columns_are_refused(train, message):
    with pytest.raises(CorpusError, match=message):
        column_of("s", {"train": train, "test": (np.zeros((2, 1)), "ab")})


def test_the_first_column_sets_the_classes_and_others_are_left_out():
    columns = {
        "first": vectors("cabb", "abc", name="one"),
        "more": vectors("zdbdacd", "bcaz", stand_in=True, name="two"),
    }
    data = join(columns)
    assert data.classes == ("a", "b", "c")
    assert (data.corpus, data.stand_in, data.log_mels) == ("one + two", True, {})
    assert list(data.train) == list(data.test) == ["first", "more"]
    for partition in (data.train, data.test):
        for examples in partition.values():
            classes = [chr(int(value)) for value in examples.values[:, 0]]
            assert classes == [data.classes[n] for n in examples.labels]
    assert data.train["more"].values[:, 1].tolist() == [200, 400, 500]
    # What is whole is not copied: it is most of the memory.
    assert data.train["first"].values is only(columns["first"].train).values


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("ab", "abc", "two: no train more of class c, which the first has; it has a, b. Give data"),
        ("abc", "a", "two: no test more of class b, c, which .* that both have: --classes a$"),
        ("xy", "abc", "two: no train more of class a, b, c, .* manifest:FILE.csv.$"),
    ],
)
def test_a_class_that_is_missing_is_reported(train, test, message):
    columns = {"first": vectors("abc", "abc"), "more": vectors(train, test, name="two")}
    with pytest.raises(CorpusError, match=message):
        join(columns)


def test_stand_ins_can_be_refused():
    columns = {"a": vectors("ab", "ab"), "b": vectors("ab", "ab", stand_in=True, name="made up")}
    with pytest.raises(CorpusError, match="only a stand-in: made up"):
        join(columns, require_corpus=True)
    assert not join({"a": columns["a"]}, require_corpus=True).stand_in
    with pytest.raises(ValueError, match="no column"):
        join({})


def test_remarks_and_features_name_their_modality():
    first = replace(vectors("ab", "ab"), remarks=("few",), log_mels={"vectors": LogMel(8000)})
    more = replace(first, remarks=("small", "odd"), log_mels={"vectors": LogMel(16000)})
    data = join({"x": first, "y": more, "z": vectors("ab", "ab")})
    assert data.remarks == ("few", "y: small", "y: odd")
    assert {name: of.sample_rate for name, of in data.log_mels.items()} == {"x": 8000, "y": 16000}


def test_limits_and_selected_classes():
    column = vectors("abcabcaab", "aabbc")
    few = column.limited(2)
    assert np.bincount(only(few.train).labels).tolist() == [2, 2, 2]
    assert np.bincount(only(few.test).labels).tolist() == [2, 2, 1]
    again = only(column.limited(2).train).values
    np.testing.assert_array_equal(only(few.train).values, again)
    assert column.only(["a", "c"]).classes == ("a", "c")
    assert len(only(column.only(["c", "a"]).train)) == 6
    with pytest.raises(CorpusError, match="no example of class e; there are a, b, c"):
        column.only(["a", "e"])


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
    held = data.hold_out(0.25)
    for name, examples in data.train.items():
        rest, part = numbers(held.train[name]), numbers(held.test[name])
        assert not set(rest) & set(part)
        assert sorted(rest + part) == list(range(len(examples)))
        # Each keeps its label and its values, and its place among the others.
        for index, some in ((rest, held.train[name]), (part, held.test[name])):
            assert index == sorted(index)
            assert some.labels.tolist() == examples.labels[index].tolist()
            assert some.normalisation is examples.normalisation
            whole = examples.observation(np.array(index)).value
            assert (whole == some.observation(np.arange(len(some))).value).all()


@pytest.mark.parametrize(
    ("fraction", "sizes"), [(0.25, [4, 4, 4]), (0.1, [2, 1, 1]), (0.001, [1, 1, 1])]
)
def test_each_class_gives_its_part(data, fraction, sizes):
    """Of 15, 14 and 14 examples, rounded to the nearest number, and at least one."""
    assert np.bincount(data.hold_out(fraction).test["speech"].labels).tolist() == sizes


def test_a_held_out_part_is_a_function_of_the_seed(data):
    one, again, other = (data.hold_out(0.3, seed) for seed in (0, 0, 1))
    for name in data.train:
        assert numbers(one.test[name]) == numbers(again.test[name])
        assert numbers(one.test[name]) != numbers(other.test[name])
    # Drawn, and not the first or the last of a class.
    of_class = np.flatnonzero(data.train["speech"].labels == 0)
    chosen = sorted(set(numbers(one.test["speech"])) & set(of_class.tolist()))
    assert chosen not in (of_class[:4].tolist(), of_class[-4:].tolist())


def test_the_test_partition_is_left_out_and_left_alone(data):
    before = data.digest()
    held = data.hold_out(0.25)
    assert data.digest() == before
    other = replace(data, test=numbered(5, 6, 7))
    assert other.hold_out(0.25).digest() == held.digest()
    assert (held.corpus, held.stand_in, held.classes) == ("tiny", False, ("x", "y", "z"))
    assert held.remarks[0] == "one"
    assert "scored on 0.25 of the training partition" in held.remarks[1]


def test_a_digest_is_of_values_labels_and_normalisation(data):
    speech = data.train["speech"]
    digests = {data.digest(), data.hold_out(0.25).digest()}
    for change in (
        {"labels": speech.labels[::-1].copy()},
        {"values": speech.values + 1},
        {"normalisation": data.train["image"].normalisation},
    ):
        other = replace(data, train={**data.train, "speech": replace(speech, **change)})
        digests.add(other.digest())
    assert len(digests) == 5


def test_speakers_are_held_out_whole_if_the_test_speakers_are_others(data):
    """Six speakers of 7 or 8 recordings each: two of them are a quarter of 43."""
    speech = data.train["speech"]
    speakers = [f"s{n % 6}" for n in range(len(speech))]
    own = replace(speech, groups=speakers, labels=np.arange(len(speech)) // 6 % 3)
    train = {**data.train, "speech": own}
    held = replace(data, train=train).hold_out(0.25)
    parts = [{*part["speech"].groups} for part in (held.train, held.test)]
    assert [len(part) for part in parts] == [4, 2]
    assert parts[0].isdisjoint(parts[1])
    assert len(held.train["speech"]) + len(held.test["speech"]) == len(speech)
    # Images have the same groups in both partitions, and are held out by class.
    by_class, found = (np.bincount(of.test["image"].labels) for of in (data.hold_out(0.25), held))
    assert by_class.tolist() == found.tolist()
    labels = [0 if speaker == "s0" else 1 + n % 2 for n, speaker in enumerate(speakers)]
    alone = replace(own, labels=np.array(labels))
    with pytest.raises(CorpusError, match=r"class x of speech .* speakers \(1\) to hold out 0\.25"):
        replace(data, train={**train, "speech": alone}).hold_out(0.25)


def test_a_class_too_small_is_named(data):
    speech = data.train["speech"]
    index = np.flatnonzero(speech.labels != 1)
    few = speech.take(np.append(index, 1))  # one example of class y
    with pytest.raises(CorpusError, match=r"tiny: class y of speech .* \(1\) to hold out 0\.25"):
        replace(data, train={**data.train, "speech": few}).hold_out(0.25)
