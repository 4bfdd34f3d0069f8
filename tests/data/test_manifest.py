"""A user's own corpus is read from a CSV file, for sounds and for images."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from pvae_pyro.data import recording
from pvae_pyro.data.audio.rates import at_lowest_rate
from pvae_pyro.data.audio.reading import read_audio
from pvae_pyro.data.corpora.manifest import manifest_corpus, manifest_images
from pvae_pyro.data.corpus import AudioError
from pvae_pyro.data.features import compute_features
from pvae_pyro.data.loading import open_speech

_HEADER = "path,label,speaker,split\n"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))


def _sound(path: Path, rate: int, seconds: float = 0.5, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, round(rate * seconds))
    soundfile.write(path, noise, rate, subtype="PCM_16")


def _manifest(folder: Path, text: str, name: str = "words.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_labels_rates_and_parts_of_any_kind(tmp_path):
    _sound(tmp_path / "a b" / "ñ.wav", 44100, seed=1)
    _sound(tmp_path / "c.flac", 16000, seed=2)
    path = _manifest(
        tmp_path,
        "path,label,speaker,split,start,end,comment\n"
        "a b/ñ.wav,Straße,ann,train,,,x\n"
        "c.flac,no,bob,test,0.1,0.3,\n"
        "c.flac,yes,bob,test,0.3,,\n"
        "c.flac,yes,bob,train,,0.0934561,\n",
    )
    corpus = manifest_corpus(path)
    assert (corpus.name, corpus.stand_in, corpus.problems) == ("manifest words.csv", False, ())
    assert corpus.sample_rate == 16000
    assert [(r.name, r.label, r.speaker, r.split) for r in corpus.recordings] == [
        ("a b/ñ.wav", "Straße", "ann", "train"),
        ("c.flac#0.1-0.3", "no", "bob", "test"),
        ("c.flac#0.3-end", "yes", "bob", "test"),
        ("c.flac#0.0-0.0934561", "yes", "bob", "train"),
    ]
    lengths = [len(r.read()[0]) / r.read()[1] for r in corpus.recordings]
    assert lengths == pytest.approx([0.5, 0.2, 0.2, 0.0934561], abs=1e-4)


def test_a_root_and_one_file_of_a_lower_rate(tmp_path):
    lines = ""
    for n, rate in enumerate([16000] * 6 + [8000]):
        _sound(tmp_path / "sounds" / f"{n}.wav", rate, 0.05, seed=n)
        lines += f"{n}.wav,x,ann,train\n"
    path, root = _manifest(tmp_path, _HEADER + lines), tmp_path / "sounds"
    assert {problem.kind for problem in manifest_corpus(path).problems} == {"missing"}
    corpus = at_lowest_rate(manifest_corpus(path, root))
    assert (corpus.sample_rate, corpus.problems) == (8000, ())
    assert corpus.notes == (
        "features are at the lowest rate of the files (1 at 8000 Hz, 6 at 16000 Hz)",
    )
    corpus = at_lowest_rate(manifest_corpus(path, root, sample_rate=16000))
    assert corpus.sample_rate == 16000
    assert corpus.notes[0].startswith("features at 16000 Hz have nothing above half the rate")
    assert at_lowest_rate(manifest_corpus(path, root, sample_rate=8000)).notes == ()


@pytest.mark.parametrize("why", ["truncated", "too long", "class", "copy"])
def test_a_recording_that_is_left_out_does_not_set_the_rate(tmp_path, why):
    for n in range(4):
        _sound(tmp_path / f"{n}.wav", 16000, seed=n)
    low, row, classes = tmp_path / "low.wav", "low.wav,b,ann,train,,", None
    _sound(low, 4000, 5.0 if why == "too long" else 0.5, seed=9)
    if why == "truncated":
        low.write_bytes(low.read_bytes()[:-100])
    if why == "class":
        row, classes = row.replace(",b,", ",c,"), ["a", "b"]
    if why == "copy":
        low.write_bytes((tmp_path / "0.wav").read_bytes())
    lines = [f"{n}.wav,{'ab'[n % 2]},ann,{('train', 'test')[n // 2]},," for n in range(4)]
    text = "path,label,speaker,split,start,end\n" + "\n".join([*lines, row]) + "\n"
    corpus = open_speech(f"manifest:{_manifest(tmp_path, text)}", tmp_path, classes=classes)
    assert corpus.sample_rate == 16000
    assert not any("lowest rate" in note for note in corpus.notes)


def test_two_speakers_on_two_channels(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, (8000, 2))
    soundfile.write(tmp_path / "call.wav", noise, 8000, subtype="FLOAT")
    text = "path,label,speaker,split,start,end,channel\n"
    text += "call.wav,a,ann,train,0,0.5,1\ncall.wav,b,bob,test,0.2,0.5,2\n"
    text += "call.wav,c,x,train,,,\n"  # of both channels, which are used already
    text += "call.wav,d,x,train,0,0.5,B\ncall.wav,e,x,train,0,0.5,0\n"
    corpus = manifest_corpus(_manifest(tmp_path, text))
    assert [p.kind for p in corpus.problems] == ["row", "row", "duplicate"]
    assert [p.name for p in corpus.problems[:2]] == ["words.csv:5", "words.csv:6"]
    ann, bob = corpus.recordings
    np.testing.assert_allclose(ann.read()[0], noise[:4000, 0], atol=1e-6)
    np.testing.assert_allclose(bob.read()[0], noise[1600:4000, 1], atol=1e-6)
    assert ann.name == "call.wav#0.0-0.5#channel 1"
    assert ann.identity != bob.identity
    assert not any("not read" in note for note in corpus.notes)


def test_one_channel_of_a_corpus(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, (8000, 2))
    soundfile.write(tmp_path / "both.wav", noise, 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "old.wav", noise[:, 0], 8000, subtype="PCM_U8")
    path = _manifest(tmp_path, _HEADER + "both.wav,a,ann,train\nold.wav,b,ann,train\n")
    corpora = {channel: manifest_corpus(path, channel=channel) for channel in (None, 1, 2)}
    for channel, expected in ((None, noise.mean(1)), (1, noise[:, 0]), (2, noise[:, 1])):
        samples, _ = corpora[channel].recordings[0].read()
        np.testing.assert_allclose(samples, expected, atol=1e-6)
        assert any("--channel" in note for note in corpora[channel].notes) == (channel is None)
    assert len({corpus.recordings[0].identity for corpus in corpora.values()}) == 3
    with pytest.raises(AudioError, match="has 1 channel, and channel 2"):
        corpora[2].recordings[1].read()


@pytest.mark.parametrize(
    ("columns", "times"),
    [
        *(("start,end", times) for times in ("-0.1,0.2", "0.2,0.2", "x,0.2", "nan,", ",inf")),
        *(("start,end,duration", times) for times in ("0.1,0.3,0.5", "0.1,,-0.2", ",,0")),
        ("start", '"1,234.5"'),
    ],
)
def test_impossible_times(tmp_path, columns, times):
    _sound(tmp_path / "a.wav", 8000)
    path = _manifest(tmp_path, f"path,label,speaker,split,{columns}\na.wav,x,ann,train,{times}\n")
    corpus = manifest_corpus(path)
    (problem,) = corpus.problems
    assert (corpus.recordings, problem.kind) == ((), "times")
    assert problem.reason.startswith("words.csv:2: ")
    assert columns.rpartition(",")[2] in problem.reason


def _image(path: Path, pixels: np.ndarray, **save) -> None:
    Image.fromarray(pixels).save(path, **save)


def test_images_of_any_size(tmp_path):
    rng = np.random.default_rng(0)
    exact = rng.integers(0, 256, (28, 28), dtype=np.uint8)
    _image(tmp_path / "exact.png", exact)
    tall = np.zeros((112, 56), np.uint8)
    tall[28:84, 14:42] = 255  # a white box in its middle
    _image(tmp_path / "tall.png", tall)
    _image(tmp_path / "colour.jpg", np.repeat(exact[..., None], 3, 2))
    ink = np.zeros((28, 28, 4), np.uint8)
    ink[10:18, 10:18, 3] = 255  # black ink on nothing
    _image(tmp_path / "ink.png", ink)
    sixteen = exact.astype(np.uint16) * 257
    _image(tmp_path / "sixteen.png", sixteen)
    lines = "exact.png,c0,train\ntall.png,c1,train\ncolour.jpg,c0,train\nink.png,c1,test\n"
    lines += "sixteen.png,c0,train\n"
    for _ in range(2):  # read, then from the cache
        corpus = manifest_images(_manifest(tmp_path, "path,label,split\n" + lines, "i.csv"))
        assert corpus.problems == ()
        assert corpus.labels["train"].tolist() == ["c0", "c1", "c0", "c0"]
        assert corpus.labels["test"].tolist() == ["c1"]
        images, (dark_on_light,) = corpus.images["train"][:, 0], corpus.images["test"][:, 0]
        assert images.shape == (4, 28, 28)
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images[0], exact)
        np.testing.assert_array_equal(images[3], exact)
        # 112 x 56 becomes 28 x 14 with 7 black columns at each side.
        assert images[1][7:21, 10:18].min() > 100  # 3.5 columns at each side of the middle
        assert images[1][:, :9].max() < 30
        assert images[1][:6].max() < 30
        assert abs(images[2].astype(int) - exact).mean() < 30
        assert (dark_on_light[14, 14], dark_on_light[0, 0]) == (0, 255)


def test_images_that_cannot_be_used(tmp_path):
    good = np.arange(784, dtype=np.uint8).reshape(28, 28)
    _image(tmp_path / "good.png", good)
    _image(tmp_path / "blank.png", np.full((28, 28), 7, np.uint8))
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")  # 400 million pixels
    (tmp_path / "copy.png").write_bytes(whole)  # with another label, below
    _image(tmp_path / "last.png", good[::-1])
    names = ("good", "blank", "cut", "text", "empty", "bomb", "none", "copy", "last")
    lines = "".join(f"{name}.png,{name},train\n" for name in names)
    path = _manifest(tmp_path, "path,label,split\n" + lines)
    for _ in range(2):
        corpus = manifest_images(path)
        kinds = {"none": "missing", "blank": "blank", "copy": "label"}
        kinds |= dict.fromkeys(("cut", "text", "empty", "bomb"), "unreadable")
        found = {p.reason.split(": ")[0]: p.kind for p in corpus.problems}
        assert found == {f"{tmp_path}/{name}.png": kind for name, kind in kinds.items()}
        # What is left goes by its own label.
        assert corpus.labels["train"].tolist() == ["good", "last"]
        np.testing.assert_array_equal(corpus.images["train"][1, 0], good[::-1])
        np.testing.assert_array_equal(corpus.images["train"][0, 0], good)
    _image(tmp_path / "none.png", good.T)  # what was missing is looked for again
    assert manifest_images(path).labels["train"].tolist() == ["good", "none", "last"]


def test_a_mixture_of_light_and_dark_grounds_is_reported(tmp_path):
    lines = "path,label,split\n"
    for n, ground in enumerate([0] * 5 + [255] * 3 + [0] * 12):
        pixels = np.full((28, 28), ground, np.uint8)
        pixels[4 + n % 8 : 20 + n % 8, 4 + n] = 255 - ground  # a stroke
        _image(tmp_path / f"{n}.png", pixels)
        lines += f"{n}.png,x,train\n"
    path = _manifest(tmp_path, lines)
    for _ in range(2):  # read, then from the cache
        (note,) = manifest_images(path).notes
        assert all(message in note for message in ("3 images", "17", "5.png", "light"))


def test_each_file_is_decoded_once_whatever_the_order_of_rows(tmp_path, monkeypatch):
    for n in range(3):
        _sound(tmp_path / f"{n}.wav", 8000, 2.0, seed=n)
    lines = [
        f"{n}.wav,{k % 3},ann,{'train' if k < 12 else 'test'},{k / 10},{k / 10 + 0.1}\n"
        for k in range(20)
        for n in range(3)
    ]
    path = _manifest(tmp_path, "path,label,speaker,split,start,end\n" + "".join(lines))
    read = []
    monkeypatch.setattr(recording, "read_audio", lambda p, c: (read.append(p), read_audio(p, c))[1])
    corpus = open_speech(f"manifest:{path}", tmp_path)
    compute_features(corpus, workers=1)
    assert len(corpus.recordings) == 60
    times = Counter(Path(p).name for p in read)
    assert times.keys() == {"0.wav", "1.wav", "2.wav"}
    assert max(times.values()) <= 2  # in training, in test


@pytest.mark.parametrize(
    ("columns", "times"),
    [
        ("start,duration", "0.1,0.2"),
        ("offset,duration", "0.1,0.2"),
        ("startTime,endTime", "0.1,0.3"),
        ("StartSec,EndSec", "0.1,0.3"),
        ("onset,offset", "0.1,0.3"),
        ("Start (s),End (s)", "0.1,0.3"),
        ("begin_time_sec,dur", "0.1,0.2"),
        ("start;end", "0,1;0,3"),  # as Excel writes numbers where a comma is the decimal point
        ("start,end,duration", "0.10,0.30,0.21"),
        ("end,start,duration", ",0.1,0.2"),
    ],
)
def test_common_names_of_columns_with_times(tmp_path, columns, times):
    _sound(tmp_path / "a.wav", 8000, 1.0)
    text = "path,label,speaker,split,{}\na.wav,x,ann,train,{}\n"
    text = text.replace(",", ";") if ";" in columns else text
    path = _manifest(tmp_path, text.format(columns, times))
    (recording,) = manifest_corpus(path).recordings
    assert recording.name == "a.wav#0.1-0.3"
    assert len(recording.read()[0]) == 1600
