"""AN4: its digits from either layout, with the rest of its words passed over."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pvae_pyro.data.alignment.aligner import align_words
from pvae_pyro.data.alignment.transcripts import read_transcripts
from pvae_pyro.data.audio.reading import read_audio
from pvae_pyro.data.corpora.an4 import an4_corpus
from pvae_pyro.data.corpus import CorpusError, CorpusMissing
from pvae_pyro.data.recording import SpeechCorpus
from tests.support.joined import Joined, american_strings
from tests.support.sphere import write_sphere

pytest.importorskip("pocketsphinx")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def spoken() -> Joined:
    pytest.importorskip("espeakng_loader")
    return american_strings("3170")[0]


# File -> its transcript, in the ways in which AN4 writes them, and its digits.
TRAIN = {
    "an4_clstk/fash/an255-fash-b": ("<s> THREE ONE SEVEN OH </s> (an255-fash-b)", "3170"),
    "an4_clstk/fash/cen1-fash-b": ("THREE O SEVEN ZERO (cen1-fash-b)", "370"),
    "an4_clstk/mblw/an1-mblw-b": ("RUBOUT SIXTY OH (an1-mblw-b)", "0"),
    "an4_clstk/mblw/an2-mblw-b": ("START (an2-mblw-b)", ""),
}
TEST = {"an4test_clstk/fcaw/an406-fcaw-b": ("THREE ONE THIRTY SEVEN (an406-fcaw-b)", "317")}


@pytest.fixture
def official(tmp_path: Path, spoken: Joined) -> Path:
    """The data root, with AN4 as CMU packs it."""
    etc = tmp_path / "an4" / "etc"
    etc.mkdir(parents=True)
    for n, (split, files) in enumerate({"train": TRAIN, "test": TEST}.items()):
        (etc / f"an4_{split}.fileids").write_text("\n".join(files) + "\n")
        # The two lists of AN4 are in different orders.
        lines = sorted((line for line, _ in files.values()), key=len)
        (etc / f"an4_{split}.transcription").write_text("\n".join(lines))
        for m, file in enumerate(files):
            _speak(tmp_path, file, spoken, 10 * n + m)
    return tmp_path


def _speak(root: Path, file: str, spoken: Joined, number: int, rate: int = 16000) -> None:
    """No two files are the same."""
    path = root / "an4" / "wav" / f"{file}.sph"
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.round(spoken.samples * 32767).astype(np.int16)
    samples[number] += 100
    write_sphere(path, samples, rate)


def _add(root: Path, file: str, transcript: str | None = None) -> None:
    """To the training lists."""
    for name, line in (("fileids", file), ("transcription", transcript)):
        if line is not None:
            path = root / "an4" / "etc" / f"an4_train.{name}"
            path.write_text(f"{path.read_text().rstrip()}\n{line}\n")


def _digits(corpus: SpeechCorpus) -> dict[str, str]:
    found: dict[str, str] = {}
    for recording in corpus.recordings:
        name = recording.name.partition("#")[0]
        found[name] = found.get(name, "") + recording.label
    return found


def test_official_lists(official):
    corpus = an4_corpus(official)
    assert (corpus.name, corpus.stand_in, corpus.sample_rate) == ("AN4", False, 16000)
    assert corpus.problems == ()
    expected = {
        file.partition("/")[2]: digits for file, (_, digits) in (TRAIN | TEST).items() if digits
    }
    assert _digits(corpus) == expected
    assert [(r.name, r.speaker, r.split) for r in corpus.recordings][6:9] == [
        ("fash/cen1-fash-b#4", "fash", "train"),
        ("mblw/an1-mblw-b#3", "mblw", "train"),
        ("fcaw/an406-fcaw-b#1", "fcaw", "test"),
    ]
    whole, rate = read_audio(official / "an4" / "wav" / "an4_clstk" / "fash" / "an255-fash-b.sph")
    words = align_words(whole, rate, ("three", "one", "seven", "oh"))
    for recording, word in zip(corpus.recordings[:4], words, strict=True):
        part = whole[round(word.start * rate) : round(word.end * rate)]
        np.testing.assert_array_equal(recording.read()[0], part)
    assert corpus.notes[0].startswith("11 digits of 3 speakers, found with pocketsphinx ")


def test_table(official):
    lists = an4_corpus(official)
    rows = ["path,speaker,split,transcript"]
    for split, files in (("train", TRAIN), ("test", TEST)):
        for file, (line, _) in files.items():
            words = line.removeprefix("<s>").partition("(")[0].replace("</s>", "").lower()
            rows.append(f"wav/{file}.sph,{file.split('/')[1]},{split},{words}")
    shutil.rmtree(official / "an4" / "etc")
    (official / "an4" / "utterances.csv").write_text("\n".join(rows))
    table = an4_corpus(official)
    assert table.recordings == lists.recordings
    assert (table.problems, table.notes) == (lists.problems, lists.notes)


@pytest.mark.parametrize(("oh", "digits"), [("drop", "317"), ("separate", "317o")])
def test_oh(official, oh, digits):
    corpus = an4_corpus(official, oh)
    assert _digits(corpus)["fash/an255-fash-b"] == digits
    # "zero" is no "oh"; an utterance with no other digit than "oh" is left out.
    assert _digits(corpus)["fash/cen1-fash-b"] == "370"
    assert _digits(corpus).get("mblw/an1-mblw-b") == (None if oh == "drop" else "o")


def test_unusable_utterances_are_left_out(official, spoken):
    _add(official, "an4_clstk/fash/an1-fash-b", "FIVE (an1-fash-b)")  # no such file
    _add(official, "an4_clstk/fash/an2-fash-b")  # no transcript
    _add(official, "an4_clstk/fash/an3-fash-b", "SIX QXZZY (an3-fash-b)")
    _speak(official, "an4_clstk/fash/an3-fash-b", spoken, 30)
    _add(official, "an4_clstk/fash/an4-fash-b", "SIX (an4-fash-b)")
    _speak(official, "an4_clstk/fash/an4-fash-b", spoken, 40, rate=8000)
    _add(official, "an4_clstk/fash/an5-fash-b", "THREE ONE SEVEN ZERO (an5-fash-b)")
    _speak(official, "an4_clstk/fash/an5-fash-b", spoken, 0)  # the sound of an255
    _add(official, "an4_clstk/fash/an255-fash-b")  # twice in the list
    _add(official, "../../../etc/passwd", "no transcript")
    corpus = an4_corpus(official)
    assert {(p.name, p.kind) for p in corpus.problems} == {
        ("fash/an1-fash-b", "missing"),
        ("fash/an2-fash-b", "transcript"),
        ("fash/an3-fash-b", "unknown word"),
        ("fash/an4-fash-b", "wrong rate"),
        ("fash/an5-fash-b", "duplicate"),
        ("fash/an255-fash-b", "duplicate"),
        ("an4_train.fileids:11", "name"),
        ("an4_train.transcription:9", "transcript"),
    }
    for problem in corpus.problems:
        assert problem.name.split("/")[-1] in problem.reason
    assert len(corpus.recordings) == 11


def test_errors_without_lists_or_sounds(tmp_path, official):
    with pytest.raises(CorpusMissing, match=r"nowhere/an4 has neither utterances\.csv nor"):
        an4_corpus(tmp_path / "nowhere")
    shutil.rmtree(official / "an4" / "wav")
    with pytest.raises(CorpusError, match="no digit can be used; the first problem: .*an255-fash"):
        an4_corpus(official)
    (official / "an4" / "etc" / "an4_test.fileids").unlink()
    with pytest.raises(CorpusError, match=r"an4_test\.fileids: cannot be read"):
        an4_corpus(official)


def test_some_real_utterances(data_root: Path, tmp_path: Path):
    """One of every eighth speaker: copied, because the whole takes half a minute."""
    utterances, _ = read_transcripts(data_root / "an4" / "utterances.csv")
    chosen = list({u.recording.speaker: u for u in utterances[::-1]}.values())[::8]
    rows = ["path,speaker,split,transcript"]
    (tmp_path / "an4").mkdir()
    for utterance in chosen:
        recording, words = utterance.recording, " ".join(utterance.words)
        shutil.copy(recording.path, tmp_path / "an4")
        rows.append(f"{recording.path.name},{recording.speaker},{recording.split},{words}")
    (tmp_path / "an4" / "utterances.csv").write_text("\n".join(rows))
    corpus = an4_corpus(tmp_path)
    assert corpus.problems == ()
    assert len({r.speaker for r in corpus.recordings}) == len(chosen) == 11
    lengths = [len(r.read()[0]) / 16000 for r in corpus.recordings]
    assert len(lengths) >= 20
    assert 0.05 < min(lengths) <= max(lengths) < 1
    assert 0.2 < np.median(lengths) < 0.5
