"""The command: files in, pictures and sounds out, and errors in a line."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from PIL import Image

from pvae_pyro.experiments import generate, run_svi


@pytest.fixture
def files(tmp_path):
    """A word at 44.1 kHz in stereo, another one, and drawings dark on light and light on dark."""
    rng = np.random.default_rng(0)
    for name, rate, channels in (("word.wav", 44100, 2), ("other.ogg", 16000, 1)):
        time = np.arange(rate // 2) / rate
        tone = np.sin(2 * np.pi * 300 * time) * (time > 0.1) * (time < 0.4)
        sound = 0.3 * tone + 1e-3 * rng.normal(size=len(time))
        soundfile.write(tmp_path / name, np.stack([sound] * channels, 1), rate)
    drawing = np.full((120, 90, 3), 230, np.uint8)
    drawing[20:100, 40:52] = 30
    Image.fromarray(drawing).save(tmp_path / "one.jpg")
    Image.fromarray(255 - drawing).save(tmp_path / "light.png")
    return tmp_path


@pytest.fixture
def run(small_runs, environment):
    return small_runs["pvae"]


def made(run, files, *arguments) -> set[str]:
    out = files / "out"
    shutil.rmtree(out, ignore_errors=True)
    command, *rest = map(str, arguments)
    assert generate.main([command, str(run), *rest, "--out", str(out)]) == 0
    assert json.loads((out / "generated.json").read_text())["command"] == command
    return {path.name for path in out.iterdir()} - {"sheet.png", "generated.json", "generated.npz"}


def test_translate_to_a_picture_in_the_style_of_one(run, files):
    names = made(
        run, files, "translate", "--from", files / "word.wav", "--style", files / "one.jpg"
    )
    assert names == {"from-speech.wav", "style-image.png", "translated-image.png"}
    with Image.open(files / "out" / "translated-image.png") as picture:
        assert picture.size == (224, 224)
    with np.load(files / "out" / "generated.npz") as arrays:
        assert arrays["translated-image"].shape == (28, 28)
        assert arrays["inferred-z_sem"].shape == (1, 32)


def test_translate_to_speech_in_styles_of_the_prior(run, files):
    names = made(run, files, "translate", "--from", files / "light.png", "--draws", 3)
    assert names == {"from-image.png", *(f"translated-speech-{n}.wav" for n in range(3))}
    samples, rate = soundfile.read(files / "out" / "translated-speech-0.wav")
    assert rate == 8000
    assert len(samples) > 0
    assert abs(samples).max() < 1
    with np.load(files / "out" / "generated.npz") as arrays:
        assert not np.array_equal(arrays["translated-speech-0"], arrays["translated-speech-1"])


def test_the_same_seed_gives_the_same(run, files):
    arrays = []
    for seed in (1, 1, 2):
        made(run, files, "translate", "--from", files / "one.jpg", "--draws", 1, "--seed", seed)
        with np.load(files / "out" / "generated.npz") as found:
            arrays.append(found["translated-speech"])
    assert np.array_equal(arrays[0], arrays[1])
    assert arrays[0].shape != arrays[2].shape or not np.array_equal(arrays[0], arrays[2])


def test_restyle_reconstruct_interpolate_sample(run, files):
    word, other = files / "word.wav", files / "other.ogg"
    names = made(run, files, "restyle", "--from", word, "--style", other)
    assert names == {"from-speech.wav", "style-speech.wav", "restyled-speech.wav"}
    assert "reconstructed-image.png" in made(run, files, "reconstruct", "--from", files / "one.jpg")
    for latent in ("z_sem", "z_style", "both"):
        names = made(
            run, files, "interpolate", "--from", files / "one.jpg", "--to", files / "light.png",
            "--in", latent, "--steps", 3,
        )  # fmt: skip
        assert {f"between-image-{n}.png" for n in range(3)} < names
    assert {"sample-speech-1.wav", "sample-image-1.png"} < made(run, files, "sample", "--draws", 2)


def test_without_styles_there_is_no_style(small_runs, environment, files, capsys):
    run = small_runs["jmvae"]
    assert "translated-image-0.png" in made(
        run, files, "translate", "--from", files / "word.wav", "--draws", 2
    )
    arguments = ["translate", str(run), "--from", str(files / "word.wav")]
    assert generate.main([*arguments, "--style", str(files / "one.jpg")]) == 1
    assert "has no style of image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["translate", "--from", "none.wav"], "none.wav"),
        (["translate", "--from", "note.txt"], "its name must end"),
        (["restyle", "--from", "word.wav", "--style", "one.jpg"], "two sounds or two pictures"),
        (["interpolate", "--from", "word.wav", "--to", "one.jpg"], "two sounds or two pictures"),
        (["translate", "--from", "word.wav", "--into", "touch"], "--into"),
        (
            ["translate", "--from", "word.wav", "--style", "one.jpg", "--into", "speech"],
            "the style is image",
        ),
    ],
)
def test_every_error_is_one_line(run, files, capsys, arguments, message):
    command, *rest = (str(files / a) if "." in a else a for a in arguments)
    assert generate.main([command, str(run), *rest, "--out", str(files / "out")]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_folder_that_is_not_empty_is_refused(run, files, capsys):
    made(run, files, "reconstruct", "--from", files / "one.jpg")
    again = ["reconstruct", str(run), "--from", str(files / "one.jpg")]
    assert generate.main([*again, "--out", str(files / "out")]) == 1
    assert "is not empty" in capsys.readouterr().err


@pytest.fixture(scope="module")
def run_on_drawings(small, cache, tmp_path_factory):
    """A run on light strokes on black, as a manifest has them."""
    folder = tmp_path_factory.mktemp("drawings")
    lines = "path,label,split\n"
    for n in range(12):
        pixels = np.zeros((28, 28), np.uint8)
        pixels[3 + n % 4 : 23 + n % 4, 8 + n] = 255
        Image.fromarray(pixels).save(folder / f"{n}.png")
        lines += f"{n}.png,{'abc'[n % 3]},{'train' if n < 6 else 'test'}\n"
    (folder / "drawings.csv").write_text(lines)
    options = [*small, "--image-dataset", f"manifest:{folder}/drawings.csv", "--epochs", "1"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cache.items():
            patch.setenv(name, value)
        assert run_svi.main([*options, "--model", "vae-image", "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_a_picture_is_brought_to_the_light_and_dark_of_training(
    run_on_drawings, environment, files, capsys
):
    seen = []
    for name in ("one.jpg", "light.png"):  # negatives of each other
        made(run_on_drawings, files, "reconstruct", "--from", files / name)
        with np.load(files / "out" / "generated.npz") as arrays:
            seen.append(arrays["from-image"])
        told = capsys.readouterr().err
        assert (f"{name}: light and dark were exchanged" in told) == (name == "one.jpg")
    for pixels in seen:
        assert pixels[0, 0] < 40
        assert pixels.max() > 180
    assert np.corrcoef(seen[0].ravel(), seen[1].ravel())[0, 1] > 0.95
