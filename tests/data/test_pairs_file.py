"""Files of pairs: what is read, what is left out, and what is an error."""

import csv
import shutil

import numpy as np
import pytest

from pvae_pyro.data.corpora.pairs_file import modalities_in
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.labels_file import read_labels, with_labels
from pvae_pyro.data.loading_pairs import load_pairs
from tests.support.tiny_pairs import write_pairs, write_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("pairs")
    write_pairs(folder)
    return folder


@pytest.fixture
def load(folder, environment):
    """Writes a file of pairs with these lines, and loads it."""

    def load(*lines, **options):
        file = folder / "some.csv"
        file.write_text("\n".join(lines))
        return load_pairs(file, **options)

    return load


TEST_ROW = "test0.wav,test0.png,test"


def names_of_rows(data, split="train"):
    """The files of each row, None where one is missing."""
    columns = [
        [data.partitions[split][name].names[n] if n >= 0 else None for n in index]
        for name, index in data.pairs[split].items()
    ]
    return list(zip(*columns, strict=True))


def test_rows_are_examples_of_all_modalities(folder, environment):
    data = load_pairs(folder / "pairs.csv")
    with open(folder / "pairs.csv", newline="") as file:
        written = [(row["speech"] or None, row["image"] or None, row["split"])
                   for row in csv.DictReader(file)]  # fmt: skip
    for split in ("train", "test"):
        assert names_of_rows(data, split) == [row[:2] for row in written if row[2] == split]
    assert data.classes == ()
    assert {label for of in data.train.values() for label in of.labels} == {-1}
    assert data.train["speech"].groups == ()
    assert not data.problems
    assert "train: 12 rows, 9 of them complete" in data.remarks[-2]
    frames = data.train["speech"].normalisation.apply(data.train["speech"].values)
    np.testing.assert_allclose(frames.mean(0), 0, atol=1e-3)
    assert data.train["image"].values.dtype == np.uint8


def test_labels_and_speakers_may_be_there(tmp_path, environment):
    data = load_pairs(write_pairs(tmp_path, label=True, speaker=True))
    assert data.classes == ("a", "b")
    assert data.labels_of_tuples("train").tolist() == [0, 0, 1, 1] * 3
    assert set(data.test["speech"].groups) == {"s2", "s3"}
    held = data.hold_out(0.3)
    assert set(held.test["speech"].groups).isdisjoint(held.train["speech"].groups)
    few = load_pairs(tmp_path / "pairs.csv", classes=["b"], limit=2)
    assert few.classes == ("b",)
    assert len(names_of_rows(few)) == 2


def test_a_column_may_be_left_out(folder, environment):
    data = load_pairs(folder / "pairs.csv", modalities=["image"])
    assert list(data.train) == ["image"]
    assert len(names_of_rows(data)) == 11
    assert any("rows that have no image" in remark for remark in data.remarks)


def test_pictures_in_their_colours_and_size(folder, environment):
    grey = load_pairs(folder / "pairs.csv", image_size=40).train["image"]
    assert grey.values.shape[1:] == (1, 40, 40)
    in_colour = load_pairs(folder / "pairs.csv", image_size=32, image_colour="rgb").train["image"]
    assert in_colour.values.shape[1:] == (3, 32, 32)


def test_a_second_column_of_sounds(load):
    data = load(
        "spanish,speech,split", "train0.wav,train1.wav,train", ",train2.wav,train",
        "test0.wav,test1.wav,test",
    )  # fmt: skip
    assert names_of_rows(data) == [("train0.wav", "train1.wav"), (None, "train2.wav")]
    assert data.log_mels.keys() == {"spanish", "speech"}


def test_rows_share_files_and_copies_are_one_file(load, folder):
    shutil.copy(folder / "train0.png", folder / "copy.png")
    data = load(
        "speech,image,split", "train0.wav,train0.png,train", "train1.wav,copy.png,train",
        "./train1.wav,train1.png,train", TEST_ROW,
    )  # fmt: skip
    assert names_of_rows(data) == [
        ("train0.wav", "train0.png"), ("train1.wav", "train0.png"), ("train1.wav", "train1.png"),
    ]  # fmt: skip
    assert len(data.train["image"]) == len(data.train["speech"]) == 2


def test_parts_of_sounds(load):
    data = load(
        "speech,image,split,start,end", "train9.wav,train0.png,train,0,0.08",
        "train9.wav,train1.png,train,0.08,0.16", "test0.wav,test0.png,test,,",
    )  # fmt: skip
    assert data.train["speech"].names == ["train9.wav#0.0-0.08", "train9.wav#0.08-0.16"]


@pytest.mark.parametrize(
    ("row", "kind", "reason"),
    [
        ("none.wav,train1.png,train", "missing", "some.csv:3: .*none.wav"),
        ("train1.wav,broken.png,train", "unreadable", "some.csv:3: .*broken.png"),
        ("broken.wav,train1.png,train", "header", "some.csv:3: .*broken.wav"),
        (",,train", "row", "names no file"),
        ("train1.wav,train1.png,dev", "unknown split", "unknown split 'dev'"),
        ("train0.wav,train0.png,train", "duplicate", "the same pair as some.csv:2"),
        ("train0.wav,train1.png,test", "duplicate", "which is in the train split"),
        ("../train1.wav,train1.png,train", "escapes its root", "outside"),
    ],
)
def test_a_row_that_cannot_be_used_is_left_out(load, folder, row, kind, reason):
    for name in ("broken.png", "broken.wav"):
        (folder / name).write_bytes(b"RIFF of no use")
    lines = "speech,image,split", "train0.wav,train0.png,train", row, TEST_ROW
    data = load(*lines)
    (problem,) = data.problems
    assert (problem.kind, problem.name) == (kind, "some.csv:3")
    assert names_of_rows(data) == [("train0.wav", "train0.png")]
    assert [len(of) for of in data.train.values()] == [1, 1]
    with pytest.raises(CorpusError, match=f"--strict: .*{reason}"):
        load(*lines, strict=True)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["speech,image", "a.wav,a.png"], r"some.csv: has no column split: add one that says"),
        (["split,label", "train,a"], r"some.csv: has no column of files, such as speech"),
        (["speech,image,split", "train0.wav,,train", "test0.wav,,test"],
         r"some.csv: the column image has no file in any row: take it out"),
        (["speech,notes,split", "train0.wav,loud,train"],
         r"some.csv:2: the column notes is unknown, and loud is no sound file: .*"
         r"--modalities speech"),
        (["speech,image,split,label", "train0.wav,train0.png,train,a", "train1.wav,,train,"],
         r"some.csv:3: has no label, and other rows do: .*evaluate.py"),
        (["speech,image,split", "train0.wav,train0.png,train", "test0.wav,,test"],
         r"the test partition has no image that can be used; give some, or --modalities"),
        (["speech,other,split,start", "train0.wav,train1.wav,train,0.1"],
         r"some.csv:2: selects a part .* several columns of sounds \(speech, other\): cut"),
        (["speech,image,split", "no.wav,no.png,train"], r"nothing can be used; the first of 1"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_an_error(load, lines, message):
    with pytest.raises(CorpusError, match=message):
        load(*lines)


def test_options_that_do_not_fit_are_errors(folder, environment):
    with pytest.raises(CorpusError, match="has no column touch, which --modalities names"):
        modalities_in(folder / "pairs.csv", ["speech", "touch"])
    with pytest.raises(CorpusError, match="--classes needs labels: give the file a column label"):
        load_pairs(folder / "pairs.csv", classes=["a"])


# --- labels of their own file --------------------------------------------------------------------


def test_labels_are_told_of_any_file_of_a_row(folder, environment):
    data = load_pairs(folder / "pairs.csv")
    before = data.digest()
    found = with_labels(data, read_labels(folder / "labels.csv"), "labels.csv")
    assert found.classes == ("a", "b")
    assert found.labels_of_tuples("train").tolist() == [0, 0, 1, 1] * 3
    assert found.train["image"].labels.min() == 0  # of pictures whose sounds alone are listed
    assert data.classes == ()
    assert data.digest() == before
    with pytest.raises(CorpusError, match="has labels of its own"):
        with_labels(found, {}, "labels.csv")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([("train0.wav", "a"), ("./train0.wav", "b")], "labels.csv:3: train0.wav has two labels"),
        ([("train0.wav", "a"), ("train0.png", "b")], "train0.wav is of class a and train0.png of"),
        ([("train0.wav", "a")], "has no label of train1.wav or train1.png: give one of each row"),
        ([("train0.wav", "")], "label is empty"),
    ],
)
def test_labels_that_do_not_fit_are_errors(folder, environment, tmp_path, labels, message):
    write_rows(tmp_path / "labels.csv", [["path", "label"], *labels])
    data = load_pairs(folder / "pairs.csv")
    with pytest.raises(CorpusError, match=message):
        with_labels(data, read_labels(tmp_path / "labels.csv"), "labels.csv")
