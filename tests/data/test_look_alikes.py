"""Classes and speakers that look alike are reported in the corpora that a user brings."""

import numpy as np
import pytest
import soundfile
from PIL import Image

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.joining import join
from pvae_pyro.data.loading import image_column, open_speech, speech_column
from pvae_pyro.experiments import prepare


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))


def _manifest(folder, labels, suffix, speakers=("ann",)):
    """Write sounds (.wav) or images (.png) and their manifest; the first half is for training."""
    rng = np.random.default_rng(0)
    lines = ["path,label,speaker,split"]
    for n, label in enumerate(labels):
        split = "train" if n < len(labels) / 2 else "test"
        if suffix == ".wav":
            soundfile.write(folder / f"{n}.wav", rng.normal(0, 0.1, 2000), 8000)
        else:
            pixels = rng.integers(0, 255, (28, 28), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{n}.png")
        lines.append(f"{n}{suffix},{label},{speakers[n % len(speakers)]},{split}")
    path = folder / f"manifest{suffix}.csv"
    path.write_text("\n".join(lines), "utf-8")
    return f"manifest:{path}"


def _words(folder, labels, speakers=("ann",)):
    return _manifest(folder, labels, ".wav", speakers)


def _drawings(folder, labels):
    return _manifest(folder, labels, ".png")


def _mentions(column, *names):
    return any(all(name in remark for name in names) for remark in column.remarks)


def test_classes_and_speakers(tmp_path):
    labels = ["Yes", "yes", "7", "7.0"] * 2
    column = speech_column(_words(tmp_path, labels, ["Ann", "ann", "bob"]), tmp_path)
    assert _mentions(column, "'Yes' (2)", "'yes' (2)")
    assert _mentions(column, "'7' (2)", "'7.0' (2)")
    assert _mentions(column, "speakers", "'Ann' (3)", "'ann' (3)")


def test_classes_of_images(tmp_path):
    column = image_column(_drawings(tmp_path, ["Yes", "yes", "no", "no"] * 2), tmp_path)
    assert _mentions(column, "'Yes' (2)", "'yes' (2)")
    assert not _mentions(column, "'no'")


def test_across_modalities(tmp_path, capsys):
    """Another normal form is the same class; another case is an error that names both."""
    words = _words(tmp_path, ["e\u0301", "no"] * 4)
    speech = speech_column(words, tmp_path)
    same = image_column(_drawings(tmp_path, ["\u00e9", "no"] * 2), tmp_path)
    assert join({"speech": speech, "image": same}).classes == ("no", "\u00e9")
    other = _drawings(tmp_path, ["\u00c9", "no"] * 2)
    with pytest.raises(CorpusError, match="'\u00c9' and '\u00e9' look alike"):
        join({"speech": speech, "image": image_column(other, tmp_path)})
    asked = ["--dataset", words, "--image-dataset", other, "--out", str(tmp_path / "out")]
    assert prepare.main(asked) == 1
    assert "'\u00c9' and '\u00e9' look alike" in capsys.readouterr().out


def test_the_error_for_an_empty_class_gives_the_first_problem(tmp_path):
    words = _words(tmp_path, ["1", "2"] * 2)
    for n in range(4):
        (tmp_path / f"{n}.wav").unlink()
    why = r"nothing can be used; .*4 problems: .*0\.wav: .*No such file"
    with pytest.raises(CorpusError, match=why):
        open_speech(words, tmp_path, classes=["1", "2"])
    drawings = _drawings(tmp_path, ["1", "2"] * 2)
    for n in range(4):
        (tmp_path / f"{n}.png").unlink()
    with pytest.raises(CorpusError, match=r"no image can be used; .*0\.png: .*No such file"):
        image_column(drawings, tmp_path, classes=["1", "2"])
