"""FSDD, AudioMNIST and Speech Commands: what names mean, and that only verified files are kept."""

import hashlib
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from torchaudio.datasets import speechcommands

from pvae_pyro.data.cache import digest
from pvae_pyro.data.corpora import audio_mnist, fsdd, speech_commands
from pvae_pyro.data.corpora.audio_mnist import TEST_SPEAKERS, audio_mnist_corpus
from pvae_pyro.data.corpora.fsdd import fsdd_corpus
from pvae_pyro.data.corpora.speech_commands import SHA256, URL, WORDS, speech_commands_corpus
from pvae_pyro.data.corpus import CorpusError, Problem
from pvae_pyro.data.recording import SpeechCorpus
from tests.support.archives import tar_gz
from tests.support.local_server import local_server

VERSION = "speech_commands_v0.02"
# The speakers of Speech Commands: one for each of the corpus's lists, and one for training.
HEX = {"0a7c2a8d": "testing", "1b8d3b9e": "validation", "2c9e4caf": ""}


def _sounds(names: Iterable[str], rate: int) -> dict[str, bytes]:
    """A WAV file for each name; the samples of the n-th are n / 100 and -n / 100."""
    made = {}
    for number, name in enumerate(names, 1):
        file = io.BytesIO()
        soundfile.write(file, number / 100 * np.sign(np.arange(30) - 9.5), rate, format="WAV")
        made[name] = file.getvalue()
    return made


FSDD = _sounds(
    (f"{digit}_{name}_{n}.wav" for name in ("ann", "bob") for digit in range(10) for n in (4, 15)),
    8000,
)
AUDIO_MNIST = _sounds(
    (f"{s}/{digit}_{s}_{n}.wav" for s in ("01", "05", "36") for digit in range(10) for n in (0, 1)),
    48000,
)
COMMANDS = _sounds((f"{word}/{s}_nohash_0.wav" for word in (*WORDS, "marvin") for s in HEX), 16000)
LISTS = {
    f"{of}_list.txt": "\n".join(n for n in COMMANDS if HEX[n.split("/")[1][:8]] == of).encode()
    for of in ("testing", "validation")
}


@dataclass(frozen=True)
class Tiny:
    """A tiny version of a corpus.

    at: folders below the data folder where it is looked for; a download goes to the first.
    files: what a download keeps, by name below that folder. others: what it passes over, by name
        in the archive. top: the folder of `files` in the archive.
    says: name and features' rate of the corpus, and its notes.
    """

    module: ModuleType
    read: Callable[..., SpeechCorpus]
    at: tuple[str, ...]
    files: dict[str, bytes]
    others: dict[str, bytes]
    top: str
    says: tuple[str, int, tuple[str, ...]]


CORPORA = {
    "fsdd": Tiny(
        fsdd,
        fsdd_corpus,
        ("fsdd/recordings",),
        FSDD,
        {"free-26eb9aa/README.md": b"text", "free-26eb9aa/other/1_ann_4.wav": b"other"},
        "free-26eb9aa/recordings/",
        ("FSDD", 8000, ()),
    ),
    "audio_mnist": Tiny(
        audio_mnist,
        audio_mnist_corpus,
        ("audio_mnist/data", "AUDIO-MNIST", f"AudioMNIST-{audio_mnist.REVISION}/data"),
        {**AUDIO_MNIST, "audioMNIST_meta.txt": b"{}"},
        {"a/data/36/notes.txt": b"text", "a/deep/data/01/0_01_9.wav": b"other"},
        "a/data/",
        ("AudioMNIST", 16000, ()),
    ),
    "speech_commands": Tiny(
        speech_commands,
        speech_commands_corpus,
        (VERSION, f"SpeechCommands/{VERSION}"),
        {n: c for n, c in (COMMANDS | LISTS).items() if not n.startswith("marvin")},
        {
            "./README.md": b"text",
            "./marvin/0_nohash_0.wav": b"other",
            "./one/x/0_nohash_0.wav": b"",
        },
        "./",
        (
            "Speech Commands v0.02 (digits)",
            16000,
            ("10 recordings of validation_list.txt are left out",),
        ),
    ),
}


def _meaning(name: str) -> tuple[str, str, str] | None:
    """Label, speaker and split of a recording; None where it is left out."""
    if "/" in name:  # of Speech Commands
        word, speaker = name.split("_")[0].split("/")
        split = {"testing": "test", "validation": None, "": "train"}[HEX[speaker]]
        return (str(WORDS.index(word)), speaker, split) if split else None
    digit, speaker, index = name.split("_")
    return digit, speaker, "test" if index == "4" or speaker == "05" else "train"


LAYOUTS = [(name, layout) for name, tiny in CORPORA.items() for layout in tiny.at]


@pytest.fixture(autouse=True)
def _pinned_to_the_tiny_corpora(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PVAE_OFFLINE", raising=False)
    content = sorted(f"{n[:-4]} {hashlib.sha256(c).hexdigest()}" for n, c in FSDD.items())
    monkeypatch.setattr(fsdd, "CONTENT", digest(*content))
    monkeypatch.setattr(audio_mnist, "_SPEAKERS", ("01", "05", "36"))
    monkeypatch.setattr(audio_mnist, "_INDICES", range(2))
    monkeypatch.setattr(audio_mnist, "_TOTAL", sum(map(len, AUDIO_MNIST.values())))
    monkeypatch.setattr(speech_commands, "_LINES", dict.fromkeys(sorted(LISTS)[::-1], 11))


def _write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Every tiny corpus in the data folder `tmp_path`."""
    return {name: _write(tmp_path / tiny.at[0], tiny.files) for name, tiny in CORPORA.items()}


def _assert_whole(name: str, corpus: SpeechCorpus) -> None:
    tiny = CORPORA[name]
    assert (corpus.name, corpus.sample_rate, corpus.notes) == tiny.says
    assert (corpus.stand_in, corpus.problems) == (False, ())
    sounds = [file[:-4] for file in tiny.files if file.endswith(".wav")]
    # AudioMNIST's names do not begin with the folder of the speaker.
    names = [s.split("/")[-1] if name == "audio_mnist" else s for s in sounds]
    expected = {name: found for name in names if (found := _meaning(name))}
    assert {r.name: (r.label, r.speaker, r.split) for r in corpus.recordings} == expected
    for recording in corpus.recordings:
        level = (names.index(recording.name) + 1) / 100
        np.testing.assert_allclose(np.abs(recording.read()[0]), level, atol=1e-4)


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_names_are_read(tmp_path: Path, name: str, layout: str):
    folder = _write(tmp_path / layout, CORPORA[name].files)
    (folder / ".DS_Store").write_bytes(b"")
    _assert_whole(name, CORPORA[name].read(tmp_path))


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_without_recordings_is_an_error(tmp_path: Path, name: str):
    folder = _write(tmp_path / CORPORA[name].at[0], LISTS)
    (folder / "01").mkdir()
    with pytest.raises(CorpusError, match=f"{folder} has no recording.*; delete it"):
        CORPORA[name].read(tmp_path)


# --- downloads -----------------------------------------------------------------------------------


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch):
    """Puts files in an archive, which is served as that of the corpus; returns the server."""
    with local_server({}) as server:

        def offered(name: str, files: dict[str, bytes], pin: bool = True):
            tiny = CORPORA[name]
            members = {tiny.top + file: content for file, content in files.items()}
            archive = tar_gz(*(members | tiny.others).items())
            server.files["archive.tar.gz"] = archive
            monkeypatch.setattr(tiny.module, "URL", server.url + "archive.tar.gz")
            if name == "speech_commands" and pin:
                monkeypatch.setattr(tiny.module, "SHA256", hashlib.sha256(archive).hexdigest())
            return server

        yield offered


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_is_downloaded_once(offer, tmp_path: Path, name: str):
    server, tiny = offer(name, CORPORA[name].files), CORPORA[name]
    _assert_whole(name, tiny.read(tmp_path))
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {f"{tiny.at[0]}/{file}" for file in tiny.files}
    tiny.read(tmp_path)
    assert server.asked == ["archive.tar.gz"]


# Files that are other than they should be, or absent (None), and what the error says.
CHANGED = [
    ("fsdd", {"0_ann_4.wav": None}, "26eb9aa.tar.gz is not revision 26eb9aa of FSDD"),
    ("fsdd", {"0_ann_4.wav": b"other"}, "is not revision"),
    ("fsdd", {"9_zoe_4.wav": FSDD["1_ann_4.wav"]}, "is not revision"),
    ("audio_mnist", {"01/0_01_0.wav": None}, "is not revision .*lacks 1 recordings and has 0"),
    ("audio_mnist", {"07/0_07_0.wav": b"more"}, "is not revision .*lacks 0 recordings and has 1"),
    ("audio_mnist", {"05/4_05_1.wav": b"RIFF"}, r"is not revision .*have \d+ bytes, not \d+"),
    ("speech_commands", {}, SHA256),
]


@pytest.mark.parametrize(("name", "change", "message"), CHANGED)
def test_other_content_is_refused(offer, tmp_path: Path, name: str, change: dict, message: str):
    files = CORPORA[name].files | change
    offer(name, {n: content for n, content in files.items() if content is not None}, pin=False)
    with pytest.raises(CorpusError, match=message):
        CORPORA[name].read(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# --- what is special about each ------------------------------------------------------------------


def test_fsdd_of_another_revision_is_noted(folders: dict[str, Path], tmp_path: Path, monkeypatch):
    monkeypatch.undo()
    assert fsdd_corpus(tmp_path).notes == (
        f"{folders['fsdd']} differs from revision 26eb9aa of FSDD",
    )


def test_files_of_fsdd_that_cannot_be_used(folders: dict[str, Path], tmp_path: Path):
    folder = folders["fsdd"]
    names = ("10_ann_3.wav", "1_a2_3.wav", "1_ann.wav", "1_ann_3.wav", "readme.txt")
    for name in names:
        (folder / name).mkdir() if name == "1_ann_3.wav" else (folder / name).touch()
    (folder / "8_ann_3.wav").symlink_to("nowhere")
    (folder / "9_ann_3.wav").write_bytes(FSDD["9_ann_4.wav"])
    corpus = fsdd_corpus(tmp_path)
    reason = "is not a recording named digit_speaker_index.wav"
    assert corpus.problems[:5] == tuple(
        Problem(name, "name", f"{folder / name}: {reason}") for name in names
    )
    assert [(p.name, p.kind) for p in corpus.problems[5:]] == [
        ("8_ann_3", "missing"),
        ("9_ann_4", "duplicate"),
    ]
    assert len(corpus.recordings) == 40


def test_all_of_fsdd(data_root: Path, monkeypatch):
    monkeypatch.undo()
    corpus = fsdd_corpus(data_root)
    assert (corpus.problems, corpus.notes) == ((), ())
    splits = [r.split for r in corpus.recordings]
    assert (splits.count("train"), splits.count("test")) == (2700, 300)
    assert len({r.speaker for r in corpus.recordings}) == 6
    assert {r.label for r in corpus.recordings} == set("0123456789")


def test_test_speakers_of_audio_mnist(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    assert len(set(TEST_SPEAKERS)) == 12
    # From the publishers' metadata.
    women = {"12", "26", "28", "36", "43", "47", "52", "56", "57", "58", "59", "60"}
    assert len(women & set(TEST_SPEAKERS)) == 3
    assert len(audio_mnist._names()) == 30_000
    assert {"01/0_01_0.wav", "60/9_60_49.wav"} < audio_mnist._names()


def test_copies_in_audio_mnist_are_left_out(folders: dict[str, Path], tmp_path: Path):
    (folders["audio_mnist"] / "36/3_36_20.wav").write_bytes(AUDIO_MNIST["36/3_36_1.wav"])
    corpus = audio_mnist_corpus(tmp_path)
    assert corpus.notes == ("left out, copies of others by the publishers' word: 3_36_20",)
    assert (corpus.problems, len(corpus.recordings)) == ((), 60)


def test_the_archive_of_speech_commands_is_the_one_that_torchaudio_knows():
    known = {url.rpartition("/")[2]: sha for url, sha in speechcommands._CHECKSUMS.items()}
    assert known[URL.rpartition("/")[2]] == SHA256


def test_the_validation_list_can_be_used_to_train(folders: dict[str, Path], tmp_path: Path):
    corpus = speech_commands_corpus(tmp_path, validation="train")
    assert corpus.notes == ("10 recordings of validation_list.txt are used to train",)
    splits = {r.speaker: r.split for r in corpus.recordings}
    assert splits == dict(zip(HEX, ("test", "train", "train"), strict=True))
    assert len(corpus.recordings) == 30


@pytest.mark.parametrize("name", LISTS)
def test_a_bad_list_is_noted_or_refused(folders: dict[str, Path], tmp_path: Path, name: str):
    path = folders["speech_commands"] / name
    # A list that was cut would train on what is held out.
    path.write_text("\n".join(path.read_text().split()[:5]))
    corpus = speech_commands_corpus(tmp_path)
    assert any(f"{name} has 5 lines, not the 11 of v0.02" in note for note in corpus.notes)
    path.write_text("marvin/0_nohash_0.wav\n")
    with pytest.raises(CorpusError, match=f"{name} names no recording of a digit"):
        speech_commands_corpus(tmp_path)
    path.unlink()
    with pytest.raises(CorpusError, match=f"{name} cannot be read .No such file.*no split"):
        speech_commands_corpus(tmp_path)


def test_missing_recordings_of_speech_commands_are_noted(folders, tmp_path: Path):
    for path in [*(folders["speech_commands"] / "seven").iterdir()]:
        path.unlink()
    corpus = speech_commands_corpus(tmp_path)
    assert corpus.notes == (
        "9 recordings of validation_list.txt are left out",
        "1 recordings of digits in validation_list.txt are not there",
        "1 recordings of digits in testing_list.txt are not there",
    )
    assert len(corpus.recordings) == 18
