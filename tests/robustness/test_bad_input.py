"""Every kind of bad file, on the whole way in: skipped and listed, or an error with --strict."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.spoken import load_features, open_speech
from tests.support.sphere import write_sphere

RATE = 16000


def _noise(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(7).normal(0, 0.1, round(seconds * rate))


def _wav(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> None:
    soundfile.write(path, samples, rate, subtype=subtype, format="WAV")


def _truncated_header(path: Path) -> None:
    _wav(path, _noise(0.5))
    path.write_bytes(path.read_bytes()[:30])


def _truncated_sphere_header(path: Path) -> None:
    write_sphere(path, (_noise(0.5) * 3000).astype(np.int16), RATE)
    path.write_bytes(path.read_bytes()[:500])


def _truncated_data(path: Path) -> None:
    _wav(path, _noise(0.5))
    path.write_bytes(path.read_bytes()[:-4000])


def _nan(path: Path) -> None:
    samples = _noise(0.5)
    samples[100] = np.nan
    _wav(path, samples, subtype="FLOAT")


def _count_in_header(more: int):
    def make(path: Path) -> None:
        samples = (_noise(0.5) * 3000).astype(np.int16)
        write_sphere(path, samples, RATE, sample_count=len(samples) + more)

    return make


# What is wrong -> the file, the kind it is counted under, and a part of what is said.
FILES = {
    "truncated header": (_truncated_header, "header", "header"),
    "truncated SPHERE header": (_truncated_sphere_header, "header", "header"),
    "truncated data": (_truncated_data, "truncated", "truncated"),
    "zero samples": (lambda p: _wav(p, np.zeros(0)), "no samples", "has no samples"),
    "all zeros": (lambda p: _wav(p, np.zeros(8000)), "silent", "silent"),
    "NaN": (_nan, "not finite", "NaN"),
    "opposite phase": (
        lambda p: _wav(p, np.stack([_noise(0.5), -_noise(0.5)], 1)),
        "opposite phase",
        "--channel",
    ),
    "16 bits in 32": (
        lambda p: _wav(p, _noise(0.5) / 65536, subtype="PCM_32"),
        "silent",
        "is silent",
    ),
    "16 bits in floats": (
        lambda p: _wav(p, _noise(0.5) * 32768, subtype="FLOAT"),
        "range",
        "full scale is 1",
    ),
    "rate that cannot be": (lambda p: _wav(p, _noise(0.5), rate=800), "wrong rate", "800 Hz"),
    "fewer samples than the header says": (_count_in_header(500), "truncated", "16000 of 17000"),
    "more samples than the header says": (_count_in_header(-500), "sample count", "sample"),
    "longer than 3 s": (lambda p: _wav(p, _noise(3.1)), "too long", "more than 3.0 s"),
    "shorter than 30 ms": (lambda p: _wav(p, _noise(0.029)), "too short", "less than 0.03 s"),
    "empty file": (lambda p: p.write_bytes(b""), "empty", "empty"),
    "no sound": (lambda p: p.write_text("hello " * 999), "unreadable", "not a sound"),
    "not there": (lambda p: None, "missing", "No such file"),
    "a folder": (lambda p: p.mkdir(), "unreadable", "is not a file"),
}

# What is wrong -> the manifest's line, the kind, and a part of what is said.
LINES = {
    "unknown split": ("good.wav,x,ann,dev,,", "unknown split", "unknown split 'dev'"),
    "path that escapes": ("../good.wav,x,ann,train,,", "escapes its root", "is outside"),
    "absolute path": ("/etc/hostname,x,ann,train,,", "escapes its root", "is outside"),
    "no label": ("good.wav,,ann,train,,", "row", "label is empty"),
    "part outside the file": ("good.wav,x,ann,train,0.4,0.9", "outside the file", "0.40 to 0.90 s"),
    "part in the wrong order": ("good.wav,x,ann,train,0.4,0.2", "times", "start < end"),
    "the same part": ("good.wav,x,ann,train,,", "duplicate", "there is another good.wav"),
    "the same part, written otherwise": ("good.wav,y,ann,train,0,", "duplicate", "the same part"),
    "a part of the other split": ("good.wav,x,ann,test,0.1,0.4", "duplicate", "overlaps good.wav"),
    "a copy": ("copy.wav,x,ann,train,,", "duplicate", "is the same file as"),
}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))


def _load(folder: Path, lines: list[str], strict: bool = False):
    manifest = folder / "words.csv"
    header = "path,label,speaker,split,start,end\n"
    manifest.write_text(header + "".join(f"{line}\n" for line in lines), "utf-8")
    return load_features(open_speech(f"manifest:{manifest}", folder, strict=strict), strict)


def _check(folder: Path, line: str, kind: str, told: str, name: str) -> None:
    """`line` is left out and listed; the good file beside it is not, before or after."""
    folder.mkdir(exist_ok=True)
    _wav(folder / "good.wav", _noise(0.5))
    (folder / "copy.wav").write_bytes((folder / "good.wav").read_bytes())
    _wav(folder / "fine.wav", _noise(0.6))
    lines = ["good.wav,x,ann,train,,", line, "fine.wav,y,bob,test,0.1,0.3"]
    for _ in range(2):  # the second time from the cache
        corpus, features = _load(folder, lines)
        names = [corpus.recordings[n].name for n in features.of.index]
        assert names == ["good.wav", "fine.wav#0.1-0.3"]
        assert [len(features[n]) for n in range(2)] == [51, 21]
        (problem,) = corpus.problems
        assert problem.kind == kind
        assert told in problem.reason
        assert name in problem.reason
    with pytest.raises(CorpusError, match="--strict") as error:
        _load(folder, lines, strict=True)
    assert problem.reason in str(error.value)


@pytest.mark.parametrize("what", FILES)
def test_files(what, tmp_path):
    make, kind, told = FILES[what]
    folder = tmp_path / "root"
    folder.mkdir()
    make(folder / "bad.wav")
    _check(folder, "bad.wav,x,ann,train,,", kind, told, "bad.wav")


@pytest.mark.parametrize("what", LINES)
def test_lines(what, tmp_path):
    line, kind, told = LINES[what]
    name = line.split(",")[0] if kind in ("duplicate", "outside the file") else "words.csv:3"
    _check(tmp_path / "root", line, kind, told, name)


def test_no_permission(tmp_path, monkeypatch):
    """As a user who is nobody: root may read everything."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        monkeypatch.setenv("PVAE_CACHE", folder + "/cache")
        secret = Path(folder, "secret.wav")
        _wav(secret, _noise(0.4))
        secret.chmod(0)
        try:
            if user == 0:
                os.seteuid(65534)
            _check(
                Path(folder), "secret.wav,x,ann,train,,", "no permission", "denied", "secret.wav"
            )
        finally:
            os.seteuid(user)


@pytest.mark.parametrize("name", ["two words.wav", "ñandú ß 七.wav", "a'b&c;d.wav", "-v.wav"])
def test_names_of_any_kind_are_fine(name, tmp_path):
    _wav(tmp_path / name, _noise(0.5))
    corpus, features = _load(tmp_path, [f"{name},Straße,José,train,,"], strict=True)
    assert [corpus.recordings[n].name for n in features.of.index] == [name]
    assert (corpus.recordings[0].label, corpus.recordings[0].speaker) == ("Straße", "José")


def test_a_missing_column(tmp_path):
    manifest = tmp_path / "words.csv"
    manifest.write_text("path,label,split\na.wav,x,train\n")
    with pytest.raises(CorpusError, match=r"words\.csv: has no column speaker"):
        open_speech(f"manifest:{manifest}", tmp_path)


def test_nothing_left(tmp_path):
    with pytest.raises(CorpusError, match=r"nothing can be used; the first of 2 problems: words"):
        _load(tmp_path, ["good.wav,x,ann,dev,,", "good.wav,,ann,train,,"])
