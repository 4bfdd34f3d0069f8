"""SecuVoice, as look-alikes: what names say, the phone, the split, and silence cut off."""

import hashlib
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pvae_pyro.data.audio.voice_activity import VoiceActivity
from pvae_pyro.data.corpora.secuvoice import WORDS, secuvoice_corpus
from pvae_pyro.data.corpus import AudioError, CorpusError, CorpusMissing
from pvae_pyro.data.loading import open_speech

RATE = 16000
SPEAKERS = ("ana", "bo", "cy", "dee")
SNR = {"lumia": 20.0, "galaxy": 35.0}
SPOKEN = (0.4, 0.9)  # seconds


def _digit(snr: float, seed: int) -> np.ndarray:
    """A loud part in noise `snr` dB below it."""
    random = np.random.default_rng(seed)
    samples = 10 ** (-snr / 20) * random.standard_normal(round(1.5 * RATE))
    start, end = (round(seconds * RATE) for seconds in SPOKEN)
    samples[start:end] += random.standard_normal(end - start)
    return 0.1 * samples


def _write(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, subtype="PCM_16")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Every digit by four speakers and two phones."""
    root = tmp_path_factory.mktemp("data")
    for number, speaker in enumerate(SPEAKERS):
        for phone, snr in SNR.items():
            for digit, word in enumerate(WORDS):
                said = word if speaker == "bo" else str(digit)
                path = root / "SecuVoice" / speaker / phone / f"{said}_1.wav"
                _write(path, _digit(snr, 100 * number + 10 * (phone == "galaxy") + digit))
    return root


@pytest.fixture
def root(tmp_path: Path, made: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(made, tmp_path / "copy")


def test_the_phone_with_the_higher_dynamic_range(made: Path):
    corpus = secuvoice_corpus(made)
    assert (corpus.name, corpus.stand_in, corpus.sample_rate) == ("SecuVoice", False, 16000)
    assert corpus.problems == ()
    assert {r.name.split("/")[1] for r in corpus.recordings} == {"galaxy"}
    assert len(corpus.recordings) == 40
    assert {(r.label, r.speaker) for r in corpus.recordings} == {
        (str(digit), speaker) for digit in range(10) for speaker in SPEAKERS
    }
    (chosen,) = corpus.notes
    assert chosen.startswith("Of the phones, galaxy is used, which has the higher dynamic range")
    ranges = [float(chosen.split(f"{phone} ")[-1].split(" dB")[0]) for phone in SNR]
    assert ranges == pytest.approx(list(SNR.values()), abs=1.5)


def test_silence_is_cut_off_where_it_is_used(made: Path):
    whole = secuvoice_corpus(made)
    assert len(whole.recordings[0].read()[0]) == 1.5 * RATE
    used = open_speech("secuvoice", made)
    for recording in used.recordings[:5]:
        samples, rate = used.read(recording)
        assert len(samples) / rate == pytest.approx(SPOKEN[1] - SPOKEN[0], abs=0.03)
    longer = open_speech("secuvoice", made, vad=VoiceActivity(hangover=0.11))
    lengths = [len(corpus.read(corpus.recordings[0])[0]) for corpus in (used, longer)]
    assert np.diff(lengths) == pytest.approx(0.1 * RATE, abs=1)
    as_it_is = open_speech("secuvoice", made, trim=False)
    assert len(as_it_is.read(as_it_is.recordings[0])[0]) == 1.5 * RATE


def test_files_that_cannot_be_used(root: Path):
    galaxy = root / "SecuVoice" / "ana" / "galaxy"
    (galaxy / "0_1.wav").write_bytes(b"no sound")
    (galaxy / "siete mal.wav").write_bytes(b"")
    shutil.copy(galaxy / "1_1.wav", galaxy / "2_1.wav")
    _write(galaxy / "3_1.wav", 0.1 * np.random.default_rng(0).standard_normal(RATE))
    corpus = secuvoice_corpus(root)
    assert "galaxy is used" in corpus.notes[0]
    assert {p.name: p.kind for p in corpus.problems} == {
        "ana/galaxy/siete mal.wav": "name",
        "ana/galaxy/2_1.wav": "label",
    }
    recordings = {r.name: r for r in corpus.recordings}
    with pytest.raises(AudioError, match=r"0_1\.wav: cannot be read"):
        recordings["ana/galaxy/0_1.wav"].read()
    used = open_speech("secuvoice", root)
    (noise,) = (r for r in used.recordings if r.name == "ana/galaxy/3_1.wav")
    with pytest.raises(AudioError, match=r"ana/galaxy/3_1\.wav: has no speech"):
        used.read(noise)


def test_a_phone_that_cannot_be_measured(root: Path):
    for path in (root / "SecuVoice").rglob("lumia/*.wav"):
        path.write_text(f"no sound: {path}")
    with pytest.raises(CorpusError, match="dynamic range of lumia cannot be measured.*--phone"):
        secuvoice_corpus(root)
    assert len(secuvoice_corpus(root, phone="galaxy").recordings) == 40


def test_the_error_without_the_corpus_says_where_it_was_looked_for(tmp_path: Path):
    with pytest.raises(CorpusMissing, match=f"not at {tmp_path}/secuvoice:.*{{digit}}_{{any}}.wav"):
        secuvoice_corpus(tmp_path)
    with pytest.raises(CorpusMissing, match="not at .*elsewhere:"):
        secuvoice_corpus(tmp_path, folder=tmp_path / "elsewhere")


# --- names ---------------------------------------------------------------------------------------


def _named(folder: Path, pattern: str, *names: str, **options):
    """The corpus of files with those names, which hold no sound."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)  # no two files are the same
    return secuvoice_corpus(folder, folder=folder, pattern=pattern, **options)


@pytest.mark.parametrize(
    ("pattern", "name", "digit", "speaker"),
    [
        ("{speaker}/{phone}/{digit}_{any}.wav", "Ana/s5/7_x y.WAV", "7", "ana"),
        ("{digit}_{speaker}_{any}.wav", "Tres_ana_01.wav", "3", "ana"),
        ("v(1.0)+/{speaker}[{digit}].wav", "v(1.0)+/ana[0].wav", "0", "ana"),
        ("{speaker}/{digit}.wav", unicodedata.normalize("NFD", "Peña/1.wav"), "1", "peña"),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, name: str, digit: str, speaker: str):
    other = pattern.format(digit=5, speaker="zoe", any="any", phone="s5")
    corpus = _named(tmp_path, pattern, name, other)
    assert {(r.label, r.speaker) for r in corpus.recordings} == {(digit, speaker), ("5", "zoe")}


@pytest.mark.parametrize(
    "name",
    ["1_a.wav", "ana/x/1_a.wav", "ana/10_a.wav", "ana/unos_a.wav"],
)
def test_other_names(tmp_path: Path, name: str):
    passed_over = (".hidden/1_a.wav", "ana/.1_a.wav", "readme.txt", "ana/1_a.wav.bak")
    names = ("ana/1_a.wav", "bo/2_a.wav", name, *passed_over)
    corpus = _named(tmp_path, "{speaker}/{digit}_{any}.wav", *names)
    assert {r.name for r in corpus.recordings} == {"ana/1_a.wav", "bo/2_a.wav"}
    assert [(p.name, p.kind) for p in corpus.problems] == [(name, "name")]


@pytest.mark.parametrize(
    "pattern",
    [
        "{speaker}/{any}.wav",
        "a/{digit}.wav",
        "{speaker}/{digit}_{number}.wav",
        "{speaker}/{digit.wav",
        "{speaker}/{speaker}_{digit}.wav",
    ],
)
def test_patterns_that_cannot_be_used(tmp_path: Path, pattern: str):
    with pytest.raises(CorpusError) as caught:
        _named(tmp_path, pattern, "ana/1_a.wav")
    assert repr(pattern) in str(caught.value)
    for placeholder in ("{digit}", "{speaker}", "{phone}", "{split}", "{any}"):
        assert placeholder in str(caught.value)


# --- splits --------------------------------------------------------------------------------------

MANY = [f"s{number:03d}" for number in range(60)]


def _split(folder: Path, *speakers: str, **options) -> dict[str, set[str]]:
    names = [f"{speaker}/1.wav" for speaker in speakers]
    corpus = _named(folder, "{speaker}/{digit}.wav", *names, **options)
    return {
        split: {r.speaker for r in corpus.recordings if r.split == split}
        for split in ("train", "test")
    }


def test_a_quarter_of_the_speakers_is_for_testing(tmp_path: Path):
    before, after = _split(tmp_path, *MANY[:30]), _split(tmp_path, *MANY)
    first = {name: hashlib.sha256(name.encode()).hexdigest()[0] for name in MANY}
    assert after["test"] == {name for name in MANY if first[name] in "0123"}
    assert after["train"] == {*MANY} - after["test"]
    assert before["test"] < after["test"]  # more speakers do not move the others
    assert before["train"] < after["train"]


@pytest.mark.parametrize("share", ["0123", "456789abcdef"])
def test_both_splits_have_a_speaker(tmp_path: Path, share: str):
    """Of speakers who would all be for testing, or all for training."""
    alike = [s for s in MANY if hashlib.sha256(s.encode()).hexdigest()[0] in share][:4]
    split = _split(tmp_path, *alike)
    train, test = (1, 3) if share == "0123" else (3, 1)
    assert (len(split["train"]), len(split["test"])) == (train, test)


def test_split_by_name(tmp_path: Path):
    names = ("train/ana/1.wav", "Train/bo/2.wav", "TEST/ana/3.wav", "dev/ana/4.wav")
    corpus = _named(tmp_path, "{split}/{speaker}/{digit}.wav", *names)
    assert {r.name: r.split for r in corpus.recordings} == dict(
        zip(names, ("train", "train", "test"), strict=False)
    )
    assert [p.name for p in corpus.problems] == ["dev/ana/4.wav"]
    (tmp_path / "TEST" / "ana" / "3.wav").unlink()
    with pytest.raises(CorpusError, match="testing"):
        _named(tmp_path, "{split}/{speaker}/{digit}.wav")
