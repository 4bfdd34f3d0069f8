"""Pairs that are known: what a batch holds, what is held out, and what is missing."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.known_pairs import connected
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.data.missing import Presence, missing_at_random, of_pairs
from pvae_pyro.data.paired import PairedData
from pvae_pyro.data.paired_arrays import paired_data
from tests.support.tiny_run import REPOSITORY

MISSING = -1


def numbered(num_rows, start=0):
    """Vectors of two modalities that tell their row: a holds its number, b ten times that."""
    return [
        {"a": np.full(2, n + start), "b": np.full(3, 10 * (n + start))} for n in range(num_rows)
    ]


@pytest.fixture
def data():
    """Row 2 lacks a, row 4 lacks b."""
    train = numbered(12)
    train[2]["a"] = train[4]["b"] = None
    return paired_data(train, numbered(6, 100))


def values(batch, data):
    """The numbers in a batch, None where a modality is missing: rows of (a, b)."""
    columns = []
    for name in ("a", "b"):
        one, normalisation = batch[name], data.train[name].normalisation
        numbers = (one.value.numpy() * normalisation.scale + normalisation.loc)[:, 0].round()
        there = np.ones(len(numbers), bool) if one.present is None else one.present.numpy()
        columns.append([int(n) if known else None for n, known in zip(numbers, there, strict=True)])
    return list(zip(*columns, strict=True))


def test_each_epoch_has_the_same_pairs_in_another_order(data):
    loader = data.loader("train", 5, seed=1)
    epochs = [[row for batch in loader.epoch(n) for row in values(batch, data)] for n in range(2)]
    pairs = {(n, 10 * n) for n in range(12)} - {(2, 20), (4, 40)} | {(None, 20), (4, None)}
    assert set(epochs[0]) == set(epochs[1]) == pairs
    assert epochs[0] != epochs[1]
    assert loader.num_examples == 12
    assert len(loader) == 3
    assert epochs[0][5:] == [row for batch in loader.epoch(0, 1) for row in values(batch, data)]


def test_held_names_the_examples_of_a_batch(data):
    held = data.loader("train", 12, shuffle=False).held(0, 0)
    assert held["a"].tolist() == [0, 1, MISSING, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert held["b"].tolist() == [0, 1, 2, 3, MISSING, 4, 5, 6, 7, 8, 9, 10]


def test_complete_pairs_alone(data):
    loader = data.loader("train", 20, complete=True)
    (batch,) = loader.epoch(0)
    assert set(values(batch, data)) == {(n, 10 * n) for n in range(12) if n not in (2, 4)}
    assert batch["a"].present is None


def test_a_model_of_one_modality_sees_the_rows_that_have_it(data):
    loader = data.loader("train", 20, names=["b"])
    (batch,) = loader.epoch(0)
    assert list(batch) == ["b"]
    assert len(batch["b"].value) == 11


def test_more_may_be_missing(data):
    """--missing removes from what is there, and never gives back what is not."""
    presence = missing_at_random(12, ["a", "b"], 0.5, seed=0)
    found = of_pairs(data.pairs["train"], presence)
    for name in ("a", "b"):
        is_known = data.pairs["train"][name][found.rows] >= 0
        of_row = dict(zip(presence.rows, presence.present[name], strict=True))
        kept = [of_row[row] for row in found.rows]
        assert (found.present[name] == (is_known & kept)).all()
    rows = data.loader("train", 20, presence=presence).num_examples
    assert rows == len(found) < 12
    nothing = Presence(np.array([2]), {"a": np.array([True]), "b": np.array([False])})
    with pytest.raises(ValueError, match="no pair has a or b"):
        of_pairs(data.pairs["train"], nothing)


def test_processes_share_a_batch(data):
    parts = [data.loader("train", 6, part=(n, 2)) for n in range(2)]
    (one, _), (other, _) = (list(part.epoch(0)) for part in parts)
    both = {*values(one, data), *values(other, data)}
    (whole, _) = data.loader("train", 6, part=(0, 1)).epoch(0)
    assert len(both) == 6
    assert both == set(values(whole, data))


def test_examples_without_labels_are_not_paired_by_class(data):
    with pytest.raises(ValueError, match=r"known pairs, as data\.loader"):
        PairedLoader(data.train, 5)


@pytest.mark.parametrize(
    "wrong", [{"a": [0, 1]}, {"a": [0], "b": [0, 1]}, {"a": [0, 12], "b": [0, 1]},
              {"a": [0, -1], "b": [0, -1]}],
)  # fmt: skip
def test_pairs_must_be_rows_of_the_examples(data, wrong):
    pairs = {name: np.array(index) for name, index in wrong.items()}
    with pytest.raises(ValueError, match="pairs"):
        replace(data, pairs={**data.pairs, "train": pairs})


def test_rows_that_share_an_example_are_connected():
    a, b = np.array([0, 1, 1, -1, 2]), np.array([0, 1, 2, 2, -1])
    groups = connected([a, b])
    assert groups[1] == groups[2] == groups[3]
    assert len({groups[0], groups[1], groups[4]}) == 3


def shared(num_sounds=12, num_pictures=4):
    """Sounds of which every three share a picture."""
    a, b = (np.arange(n)[:, None] for n in (num_sounds, num_pictures))
    rows = np.arange(num_sounds)
    pairs = {"a": rows, "b": rows * num_pictures // num_sounds}
    return paired_data({"a": a, "b": b}, {"a": a, "b": b}, pairs={"train": pairs, "test": pairs})


def test_whole_rows_are_held_out():
    data = shared().hold_out(0.25)
    assert {split: len(of["b"]) for split, of in data.partitions.items()} == {"train": 3, "test": 1}
    assert {split: len(of["a"]) for split, of in data.partitions.items()} == {"train": 9, "test": 3}
    for split, of in data.partitions.items():
        pairs = data.pairs[split]
        assert (of["b"].values[pairs["b"], 0] == of["a"].values[pairs["a"], 0] // 3).all()
    assert "scored on 0.25 of the training partition" in data.remarks[-1]
    with pytest.raises(CorpusError, match="connected by the files"):
        shared(num_pictures=1).hold_out(0.25)


def test_whole_speakers_are_held_out_with_their_rows():
    data = shared(12, 12)
    speakers = {"train": list("uuvvwwxxyyzz"), "test": ["other"] * 12}
    train, test = (
        {**of, "a": replace(of["a"], groups=speakers[split])}
        for split, of in data.partitions.items()
    )
    held = replace(data, train=train, test=test).hold_out(0.3)
    assert len(held.test["a"]) == 4
    assert len(set(held.test["a"].groups)) == 2
    assert set(held.test["a"].groups).isdisjoint(held.train["a"].groups)
    assert held.test["b"].values.tolist() == held.test["a"].values.tolist()


def labelled():
    rows = [{**row, "label": "xyz"[n % 3]} for n, row in enumerate(numbered(9))]
    rows[3]["a"] = None
    return paired_data(rows, rows)


def test_rows_of_some_classes_and_a_limited_number_of_rows():
    data = labelled()
    assert data.classes == ("x", "y", "z")
    some = data.only(["z", "x"])
    assert some.classes == ("z", "x")
    assert set(some.labels_of_tuples("train")) == {0, 1}
    assert some.pairs["train"]["a"].tolist() == [0, 1, MISSING, 2, 3, 4]
    few = data.limited(2)
    assert np.bincount(few.labels_of_tuples("test")).tolist() == [2, 2, 2]


def test_the_digest_knows_the_pairs():
    data = shared()
    again = PairedData(**{**vars(data), "pairs": {**data.pairs}})
    assert again.digest() == data.digest()
    other = {**data.pairs["train"], "b": data.pairs["train"]["b"][::-1]}
    assert replace(data, pairs={**data.pairs, "train": other}).digest() != data.digest()


# --- from Python ---------------------------------------------------------------------------------


class Sounds(torch.utils.data.Dataset):
    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, n):
        if not 0 <= n < self.size:
            raise IndexError(n)
        sound = torch.arange(2.0 * (n + 2)).reshape(n + 2, 2)
        picture = np.full((1, 4, 4), n, np.uint8) if n != 1 else None
        return {"sound": sound, "picture": picture}


def test_a_dataset_of_dictionaries():
    data = paired_data(Sounds(5), Sounds(4))
    assert data.classes == ()
    assert set(data.train["sound"].labels) == {-1}
    assert data.train["sound"].lengths.tolist() == [2, 3, 4, 5, 6]
    (batch,) = data.loader("train", 5, shuffle=False).epoch(0)
    assert batch["picture"].present.tolist() == [True, False, True, True, True]
    assert batch["picture"].value[4].unique().tolist() == [np.float32(4 / 255)]
    frames = data.train["sound"].normalisation.apply(data.train["sound"].values)
    np.testing.assert_allclose(frames.std(0), 1, rtol=1e-5)


def test_columns_and_datasets_are_the_same_data():
    rows = [Sounds(5)[n] for n in range(5)]
    columns = {name: [row[name] for row in rows] for name in ("sound", "picture")}
    assert paired_data(columns, columns).digest() == paired_data(Sounds(5), Sounds(5)).digest()


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"a": np.zeros((3, 2)), "b": np.zeros((2, 2))}, r"different lengths \[2, 3\]: give their"),
        ({"a": [np.zeros(2), np.zeros(3)], "b": [None, np.zeros(1)]}, "arrays of different shapes"),
        ({"a": np.zeros((2, 2)), "b": [None, None]}, "no row has the modality b"),
        ({"a": np.zeros((2, 2))}, "different modalities, a and a, b"),
        ({"a": np.full((2, 2), np.nan), "b": np.zeros((2, 1))}, "not finite"),
        ({"a": np.zeros((2, 2)), "b": np.zeros((2, 1)), "label": ["x", None]}, "a label, or none"),
        ({"label": ["x"]}, "there is no modality"),
    ],
)
def test_data_that_cannot_be_used(train, message):
    test = {"a": np.zeros((2, 2)), "b": np.zeros((2, 1))}
    with pytest.raises(CorpusError, match=message):
        paired_data(train, test)


def test_the_example_of_the_page_runs():
    """That of docs/data.md; every fifth example has no sound."""
    page = (REPOSITORY / "docs" / "data.md").read_text("utf-8")
    (example,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)
                  if "paired_data(" in block)  # fmt: skip
    names = {}
    exec(example, names)
    assert names["data"].train["image"].values.shape == (40, 1, 28, 28)
    assert len(names["data"].train["speech"]) == 32
    assert names["batch"]["speech"].value.shape[::2] == (8, 80)
