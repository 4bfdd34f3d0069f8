"""TIDIGITS, on a tree that looks like it: every digit of every string, where it is."""

import contextlib

import numpy as np
import pytest
import soundfile

from pvae_pyro.data.corpora import tidigits
from pvae_pyro.data.corpora.espeak import espeak_corpus
from pvae_pyro.data.corpora.tidigits import tidigits_corpus
from pvae_pyro.data.corpus import AudioError, CorpusError, CorpusMissing
from tests.support.joined import joined
from tests.support.sphere import write_sphere
from tests.support.tidigits_tree import LEVEL, RATE, spoken, write, write_ctm

LAYOUTS = (
    "tidigits/data/{ages}",  # as the LDC's download
    "tidigits",
    "LDC93S10/disc_4.{disc}.1/tidigits",
    "disc_4.{disc}.1/tidigits",
    "CD4_{disc}_1/TIDIGITS",
)


@pytest.fixture(scope="module")
def utterances():
    return spoken()


def _expected(utterances, oh="0"):
    found = {}
    for u in utterances:
        for place, (symbol, start, end) in enumerate(u.spans, 1):
            label = {"z": "0", "o": oh}.get(symbol, symbol)
            name = f"{u.split}/{u.group}/{u.speaker}/{u.name}#{place}"
            found[name] = (label, u.speaker, u.split, symbol, start, end)
    return found


def _assert_as_expected(corpus, expected):
    assert {r.name: (r.label, r.speaker, r.split) for r in corpus.recordings} == {
        name: fields[:3] for name, fields in expected.items()
    }
    for recording in corpus.recordings:
        *_, symbol, start, end = expected[recording.name]
        samples, rate = recording.read()
        assert rate == RATE
        # Every sample is of this digit, and all of its samples are here.
        assert len(samples) == end - start
        np.testing.assert_array_equal(samples * 32768, LEVEL[symbol])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout, utterances, tmp_path):
    write(tmp_path, layout, utterances)
    write_ctm(tmp_path / "tidigits_ctm", utterances)
    corpus = tidigits_corpus(tmp_path, speakers="all")
    assert (corpus.stand_in, corpus.sample_rate, corpus.problems) == (False, RATE, ())
    _assert_as_expected(corpus, _expected(utterances))


def test_shortened_as_the_ldc_ships_it(utterances, tmp_path):
    write(tmp_path, "disc_4.{disc}.1/tidigits", utterances, "shorten")
    write_ctm(tmp_path / "tidigits_ctm", utterances)
    corpus = tidigits_corpus(tmp_path, speakers="all")
    _assert_as_expected(corpus, _expected(utterances))


def test_riff_copies_elsewhere_with_alignments_elsewhere(utterances, tmp_path):
    for u in utterances:
        path = tmp_path / "my copy" / u.path.upper()
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, u.samples, RATE, subtype="PCM_16", format="WAV")
    write_ctm(tmp_path / "kaldi", utterances)
    corpus = tidigits_corpus(
        tmp_path / "none",
        folder=tmp_path / "my copy",
        alignments=tmp_path / "kaldi",
        speakers="all",
    )
    _assert_as_expected(corpus, _expected(utterances))


@pytest.mark.parametrize(
    ("speakers", "groups"), [("adults", ("man", "woman")), ("children", ("boy", "girl"))]
)
def test_speakers(speakers, groups, utterances, tmp_path):
    write(tmp_path, "tidigits", utterances)
    write_ctm(tmp_path / "tidigits_ctm", utterances)
    corpus = tidigits_corpus(tmp_path, speakers=speakers)
    assert {r.name.split("/")[1] for r in corpus.recordings} == set(groups)
    assert corpus.problems == ()


def test_alignments_of_something_else(utterances, tmp_path):
    write(tmp_path, "tidigits", utterances)
    other = tmp_path / "words.ctm"
    other.write_text("path,label\n")
    with pytest.raises(CorpusError, match=r"words.ctm aligns no utterance .* here: words.ctm:1: "):
        tidigits_corpus(tmp_path, alignments=other)


def test_oh(utterances, tmp_path):
    write(tmp_path, "tidigits", utterances)
    write_ctm(tmp_path / "tidigits_ctm", utterances)
    expected = _expected(utterances, oh="o")
    separate = tidigits_corpus(tmp_path, speakers="all", oh="separate")
    _assert_as_expected(separate, expected)
    dropped = tidigits_corpus(tmp_path, speakers="all", oh="drop")
    _assert_as_expected(dropped, {k: v for k, v in expected.items() if v[0] != "o"})


def _completeness(root, **options):
    corpus = tidigits_corpus(root, **options)
    read = []
    for recording in corpus.recordings:
        with contextlib.suppress(AudioError):
            recording.read()
            read.append(recording)
    return corpus.completeness(read)


def test_counts_are_reported(utterances, tmp_path, monkeypatch):
    """Of the digits that could be read: names alone are no corpus."""
    write(tmp_path, "tidigits", utterances)
    write_ctm(tmp_path / "tidigits_ctm", utterances)
    adults = [u for u in utterances if u.group in ("man", "woman")]
    said = {s: "".join(u.name[:-1] for u in adults if u.split == s) for s in ("train", "test")}
    counts = {split: len(digits) for split, digits in said.items()}
    ohs = {split: digits.count("o") for split, digits in said.items()}
    assert _completeness(tmp_path) == (
        f"NOT COMPLETE: {counts['train']} of 28,329 train digits, "
        f"{counts['test']} of 28,583 test digits of the adults"
    )
    without = {split: counts[split] - ohs[split] for split in counts}
    dropped = _completeness(tmp_path, oh="drop")
    assert f"{without['train']} of 25,761 train digits" in dropped
    monkeypatch.setattr(tidigits, "ADULT_DIGITS", counts)
    monkeypatch.setattr(tidigits, "ADULT_OHS", ohs)
    for options in ({"speakers": "all"}, {"oh": "drop"}, {"oh": "separate"}):
        assert _completeness(tmp_path, **options).startswith("complete: ")
    assert tidigits_corpus(tmp_path, speakers="children").completeness is None
    path = next(tmp_path.rglob(f"{adults[0].name}.wav"))
    path.write_bytes(path.read_bytes()[:-100])
    assert _completeness(tmp_path).startswith("NOT COMPLETE: ")


def test_a_speaker_of_one_name_in_two_groups(tmp_path, monkeypatch):
    """An alignment does not say whose it is, so it is used for neither."""
    aligned = []
    monkeypatch.setattr(
        tidigits, "align_utterances", lambda them, *_, **__: (aligned.extend(them) or [], [])
    )
    (man, *_) = (u for u in spoken() if u.group == "man")
    girl = man.__class__(**{**vars(man), "group": "girl", "split": "test"})
    write(tmp_path, "tidigits", [man, girl])
    write_ctm(tmp_path / "tidigits_ctm", [man])
    for speakers, groups in (("all", ["man", "girl"]), ("children", ["girl"])):
        aligned.clear()
        assert tidigits_corpus(tmp_path, speakers=speakers).recordings == ()
        assert sorted(u.recording.name.split("/")[1] for u in aligned) == sorted(groups)


def test_files_that_cannot_be_used(utterances, tmp_path):
    train = [u for u in utterances if (u.split, u.group) == ("train", "man")]
    write(tmp_path, "tidigits", train)
    write(tmp_path, "disc_4.1.1/tidigits", train[:1])  # a second copy
    folder = tmp_path / "tidigits" / "train" / "man" / train[0].speaker
    (folder / "readme.txt").write_text("not a sound")
    for name in ("x12a.wav", "12.wav", "12c.wav"):
        (folder / name).write_bytes(b"")
    wrong, backwards, cut, elsewhere = train[1:5]
    path = tmp_path / "tidigits" / cut.path
    path.write_bytes(path.read_bytes()[:-1000])
    slow = tmp_path / "tidigits" / elsewhere.path
    soundfile.write(slow, elsewhere.samples, 16000, subtype="PCM_16", format="WAV")
    write_ctm(tmp_path / "tidigits_ctm", train)
    ctm = tmp_path / "tidigits_ctm" / "train_word_align.ctm"
    text, first = ctm.read_text(), wrong.ctm.splitlines()[0]
    text = text.replace(first, first[:-1] + "x")
    first = backwards.ctm.splitlines()[0]
    text = text.replace(first, f"{backwards.speaker}_{backwards.name} 1 -0.1 0.2 {first[-1]}")
    ctm.write_text(text)

    corpus = tidigits_corpus(tmp_path)
    kinds = {}
    for problem in corpus.problems:
        kinds.setdefault(problem.kind, []).append(problem)
    assert {kind: len(found) for kind, found in kinds.items()} == {
        "name": 3,
        "duplicate": 1,
        "transcript": 1,
        "alignment": 1,
    }
    assert all(str(folder) in problem.reason for problem in kinds["name"])
    assert f"{wrong.name}.wav: is aligned with the digits 'x" in kinds["transcript"][0].reason
    assert f"alignment of {backwards.speaker}_{backwards.name}" in kinds["alignment"][0].reason
    names = {r.path.stem for r in corpus.recordings}
    assert names == {u.name for u in train} - {wrong.name, backwards.name}
    messages = {cut.name: "truncated", elsewhere.name: "16000 Hz, but the corpus is at 20000 Hz"}
    for recording in corpus.recordings:
        if message := messages.get(recording.path.stem):
            with pytest.raises(AudioError, match=message):
                recording.read()
        else:
            recording.read()


def test_errors_without_utterances_or_alignments(tmp_path):
    with pytest.raises(CorpusMissing, match="no TIDIGITS utterance of adults"):
        tidigits_corpus(tmp_path / "none")
    children = [u for u in spoken() if u.group == "girl"]
    write(tmp_path, "tidigits", children)
    with pytest.raises(CorpusMissing, match=f"of adults .* under {tmp_path}/tidigits"):
        tidigits_corpus(tmp_path)
    with pytest.raises(CorpusError, match="no alignment file"):
        tidigits_corpus(tmp_path, speakers="children", alignments=tmp_path / "none")


def test_children_without_alignments_are_aligned_here(tmp_path, monkeypatch):
    pytest.importorskip("pocketsphinx")
    pytest.importorskip("espeakng_loader")
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))
    plain = [r for r in espeak_corpus("en").recordings if r.speaker == "en-us+m3"]
    by_label = {recording.label: recording for recording in plain}
    strings = {"z9a": joined([by_label[d] for d in "09"], RATE, 0)}
    strings["7b"] = joined([by_label["7"]], RATE, 1)
    folder = tmp_path / "tidigits" / "test" / "boy" / "ac"
    folder.mkdir(parents=True)
    for name, string in strings.items():
        samples = (string.samples / abs(string.samples).max() * 20000).astype(np.int16)
        write_sphere(folder / f"{name}.wav", samples, RATE)
    (folder / "1a.wav").write_bytes(b"no sound")
    adults = [u for u in spoken() if u.group == "man"]
    write(tmp_path, "tidigits", adults)
    write_ctm(tmp_path / "tidigits_ctm", adults)

    corpus = tidigits_corpus(tmp_path, speakers="all")
    children = [r for r in corpus.recordings if r.speaker == "ac" and "/boy/" in r.name]
    assert [(r.name, r.label, r.split) for r in children] == [
        ("test/boy/ac/7b#1", "7", "test"),
        ("test/boy/ac/z9a#1", "0", "test"),
        ("test/boy/ac/z9a#2", "9", "test"),
    ]
    assert [p.kind for p in corpus.problems] == ["unreadable"]
    assert "1a.wav: " in corpus.problems[0].reason
    assert corpus.notes[0] == (
        f"3 of {len(adults) + 3} utterances had no alignment in {tmp_path}/tidigits_ctm: made here"
    )
    seven, zero, nine = (len(r.read()[0]) / RATE for r in children)
    for found, string, place in ((seven, "7b", 0), (zero, "z9a", 0), (nine, "z9a", 1)):
        start, end = strings[string].heard[place]
        assert found == pytest.approx(end - start, abs=0.15)
