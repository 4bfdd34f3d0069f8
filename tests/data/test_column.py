"""Columns of data, and how they are joined."""

from dataclasses import replace

import numpy as np
import pytest

from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.column import column_of
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.data.paired import join


def vectors(train, test, stand_in=False, name="vectors", **kwargs):
    """Each value tells its class and its place."""
    parts = {}
    for split, labels in (("train", train), ("test", test)):
        values = [[ord(label), 100 * n] for n, label in enumerate(labels)]
        parts[split] = np.array(values, np.float32).reshape(-1, 2), list(labels)
    return column_of(name, parts, stand_in=stand_in, **kwargs)


def test_a_column_of_vectors():
    column = vectors("babca", "cab")
    assert column.classes == ("a", "b", "c")
    assert column.examples["train"].labels.tolist() == [1, 0, 1, 2, 0]
    values = column.examples["train"].observation(np.arange(5)).value.numpy()
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(values.std(0), 1, atol=1e-5)
    test, train = column.examples["test"], column.examples["train"]
    assert test.normalisation is train.normalisation
    plain = vectors("babca", "cab", standardise=False).examples["train"]
    np.testing.assert_array_equal(plain.observation(np.arange(1)).value, [[98, 0]])


def test_a_column_of_sequences():
    rng = np.random.default_rng(0)
    sequences = [rng.normal(size=(n, 4)).astype(np.float32) for n in (3, 1, 5)]
    column = column_of("s", {"train": (sequences, "aba"), "test": (sequences[:2], "ab")})
    train = column.examples["train"]
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
def test_what_is_no_column(train, message):
    with pytest.raises(CorpusError, match=message):
        column_of("s", {"train": train, "test": (np.zeros((2, 1)), "ab")})


def test_the_first_one_has_the_classes_and_others_are_left_out():
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
            told = [chr(int(value)) for value in examples.values[:, 0]]
            assert told == [data.classes[n] for n in examples.labels]
    assert data.train["more"].values[:, 1].tolist() == [200, 400, 500]
    # What is whole is not copied: it is most of the memory.
    assert data.train["first"].values is columns["first"].examples["train"].values
    batch = next(PairedLoader(data.train, 4, shuffle=False).epoch(0))
    normalisations = {name: of.normalisation for name, of in data.train.items()}
    classes = [
        (batch[name].value.numpy() * of.scale + of.loc)[:, 0].round()
        for name, of in normalisations.items()
    ]
    np.testing.assert_array_equal(*classes)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("ab", "abc", "two: no train more of class c, which the first has; it has a, b. Give data"),
        ("abc", "a", "two: no test more of class b, c, which .* that both have: --classes a$"),
        ("xy", "abc", "two: no train more of class a, b, c, .* manifest:FILE.csv.$"),
    ],
)
def test_a_class_that_is_lacking_is_told(train, test, message):
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


def test_remarks_say_whose_they_are_and_features_how_they_were_made():
    first = replace(vectors("ab", "ab"), remarks=("few",), log_mel=LogMel(8000))
    more = replace(first, remarks=("small", "odd"), log_mel=LogMel(16000))
    data = join({"x": first, "y": more, "z": vectors("ab", "ab")})
    assert data.remarks == ("few", "y: small", "y: odd")
    assert {name: of.sample_rate for name, of in data.log_mels.items()} == {"x": 8000, "y": 16000}


def test_limits_and_chosen_classes():
    column = vectors("abcabcaab", "aabbc")
    few = column.limited(2)
    assert np.bincount(few.examples["train"].labels).tolist() == [2, 2, 2]
    assert np.bincount(few.examples["test"].labels).tolist() == [2, 2, 1]
    again = column.limited(2).examples["train"].values
    np.testing.assert_array_equal(few.examples["train"].values, again)
    assert column.chosen(["c", "a", "a"]).classes == ("a", "c")
    assert len(column.chosen(["c", "a"]).examples["train"]) == 6
    with pytest.raises(CorpusError, match="no example of class e; there are a, b, c"):
        column.chosen(["a", "e"])
