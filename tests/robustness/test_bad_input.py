"""Every kind of bad recording and of bad line is left out and listed, or an error with --strict."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.features import compute_features
from pvae_pyro.data.loading import open_speech
from tests.support.sphere import write_sphere


def noise(seconds):
    return np.random.default_rng(7).normal(0, 0.1, round(seconds * 16000))


def wav(path, samples, rate=16000, subtype="PCM_16"):
    soundfile.write(path, samples, rate, subtype=subtype, format="WAV")


def cut_wav(path, size):
    wav(path, noise(0.5))
    os.truncate(path, size)


def sphere(path, surplus=0, size=None):
    """A file whose header claims `surplus` samples more than there are, cut to `size` bytes."""
    samples = (noise(0.5) * 3000).astype(np.int16)
    write_sphere(path, samples, 16000, sample_count=len(samples) + surplus)
    os.truncate(path, size or path.stat().st_size)


WITH_NAN = np.where(np.arange(8000) == 100, np.nan, noise(0.5))
# what is wrong -> how the file is made, and the kind that it is counted under
FILES = {
    "truncated header": (lambda p: cut_wav(p, 30), "header"),
    "truncated SPHERE header": (lambda p: sphere(p, size=500), "truncated"),
    "truncated data": (lambda p: cut_wav(p, 12_000), "truncated"),
    "all zeros": (lambda p: wav(p, np.zeros(8000)), "silent"),
    "NaN": (lambda p: wav(p, WITH_NAN, subtype="FLOAT"), "not finite"),
    "fewer samples than the header says": (lambda p: sphere(p, 500), "truncated"),
    "longer than 3 s": (lambda p: wav(p, noise(3.1)), "too long"),
    "shorter than 30 ms": (lambda p: wav(p, noise(0.029)), "too short"),
    "empty file": (lambda p: p.write_bytes(b""), "empty"),
    "not a sound": (lambda p: p.write_text("hello " * 999), "unreadable"),
    "missing": (lambda p: None, "missing"),
}
# what is wrong -> the manifest's line, and the kind
LINES = {
    "unknown split": ("good.wav,x,ann,dev,,", "unknown split"),
    "path that escapes": ("../good.wav,x,ann,train,,", "escapes its root"),
    "link that escapes": ("link/good.wav,x,ann,train,,", "escapes its root"),
    "part outside the file": ("good.wav,x,ann,train,0.4,0.9", "outside the file"),
    "the same part twice": ("good.wav,x,ann,train,,", "duplicate"),
    "the same part in the other split": ("good.wav,x,ann,test,0.1,0.4", "duplicate"),
    "a copy of another file": ("copy.wav,x,ann,train,,", "duplicate"),
}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))


def load(folder, lines, strict=False):
    header, manifest = "path,label,speaker,split,start,end\n", folder / "words.csv"
    manifest.write_text(header + "".join(f"{line}\n" for line in lines), "utf-8")
    corpus = open_speech(f"manifest:{manifest}", folder, strict=strict)
    return compute_features(corpus, strict=strict)[0]


def check(folder, line, kind, name):
    """`line` is left out and listed; good files before and after it are used."""
    wav(folder / "good.wav", noise(0.5))
    (folder / "copy.wav").write_bytes((folder / "good.wav").read_bytes())
    wav(folder / "fine.wav", noise(0.6))
    lines = ["good.wav,x,ann,train,,", line, "fine.wav,y,bob,test,0.1,0.3"]
    for _ in range(2):  # the second time from the cache
        corpus = load(folder, lines)
        names = [recording.name for recording in corpus.recordings]
        assert names == ["good.wav", "fine.wav#0.1-0.3"]
        (problem,) = corpus.problems
        assert problem.kind == kind
        assert name in problem.reason
    with pytest.raises(CorpusError, match="--strict") as error:
        load(folder, lines, strict=True)
    assert problem.reason in str(error.value)


@pytest.mark.parametrize("what", FILES)
def test_bad_files(what, tmp_path):
    make, kind = FILES[what]
    make(tmp_path / "bad.wav")
    check(tmp_path, "bad.wav,x,ann,train,,", kind, "bad.wav")


@pytest.mark.parametrize("what", LINES)
def test_bad_lines(what, tmp_path):
    line, kind = LINES[what]
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    wav(tmp_path / "good.wav", noise(0.5))
    name = line.split(",")[0] if kind in ("duplicate", "outside the file") else "words.csv:3"
    check(folder, line, kind, name)


def test_file_without_permission(monkeypatch):
    """As an unprivileged user: root may read everything."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        monkeypatch.setenv("PVAE_CACHE", str(folder / "cache"))
        wav(folder / "secret.wav", noise(0.4))
        (folder / "secret.wav").chmod(0)
        try:
            if user == 0:
                os.seteuid(65534)
            check(folder, "secret.wav,x,ann,train,,", "no permission", "secret.wav")
        finally:
            os.seteuid(user)


@pytest.mark.parametrize("name", ["two words.wav", "ñandú ß 七.wav", "a'b&c;d.wav", "-v.wav"])
def test_unusual_names_are_fine(name, tmp_path):
    wav(tmp_path / name, noise(0.5))
    corpus = load(tmp_path, [f"{name},Straße,José,train,,"], strict=True)
    assert [recording.name for recording in corpus.recordings] == [name]
    assert (corpus.recordings[0].label, corpus.recordings[0].speaker) == ("Straße", "José")


def test_no_usable_line(tmp_path):
    with pytest.raises(CorpusError, match=r"words\.csv"):
        load(tmp_path, ["good.wav,x,ann,dev,,", "good.wav,,ann,train,,"])
