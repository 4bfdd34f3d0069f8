"""Runs on pictures in colour and of another size, and on sounds longer than three seconds."""

import base64
import csv
import io
import json
import re

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from pvae_pyro.experiments import criticise, evaluate, figures, generate, prepare, report, run_svi
from pvae_pyro.experiments.support.config import config_of_json
from pvae_pyro.experiments.support.saved_run import load_run, read_config
from pvae_pyro.generation import decode
from tests.support.tiny_run import small_corpus

EVALUATE = ["--limit", "20", "--judge-steps", "3", "--num-samples", "3"]
EVALUATE += ["--likelihood-examples", "4", "--most-classes", "4"]


def write_flags(folder, size=40):
    """Pictures in colour, of which each class has its own; returns the manifest."""
    rng = np.random.default_rng(0)
    rows = [["path", "label", "split"]]
    for n in range(33):
        pixels = rng.integers(0, 100, (size, size, 3))
        pixels[..., n % 3] += 150
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"flag-{n}.png")
        rows.append([f"flag-{n}.png", "abc"[n % 3], "train" if n < 12 else "test"])
    with open(folder / "flags.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "flags.csv"


@pytest.fixture(scope="module")
def coloured(small, environment, tmp_path_factory):
    """The folder of a run on sounds and pictures of 40 x 40 pixels in colour, and its options."""
    folder = tmp_path_factory.mktemp("coloured")
    options = [*small, "--image-dataset", f"manifest:{write_flags(folder)}", "--image-size", "40"]
    augment = ["--augment", "image", "--epochs", "1"]
    assert run_svi.main([*options, *augment, "--out", str(folder / "run")]) == 0
    return folder / "run", options


def test_colour_and_size_are_kept_and_a_run_resumes(coloured, capsys):
    run, _ = coloured
    config = json.loads((run / "config.json").read_text())
    assert config["image_shape"] == [3, 40, 40]
    model, guide = load_run(run)
    assert model.likelihoods["image"].decoder.network[-1].out_channels == 3
    assert guide.unimodal["image"].encoders["image"].network[0].in_channels == 3
    assert run_svi.main(["--resume", str(run), "--epochs", "2", "--no-report"]) == 0
    assert read_config(run).image_shape == (3, 40, 40)
    assert run_svi.main(["--resume", str(run), "--image-size", "64"]) == 1
    assert "--image-size 64 (the run: 40)" in capsys.readouterr().err


def test_evaluate_leaves_measures_of_handwriting_out_and_names_them(coloured, capsys):
    run, _ = coloured
    only = ["styles", "coherence", "style_swap", "fidelity", "log_likelihood"]
    assert evaluate.main([str(run), *EVALUATE, "--only", *only]) == 0
    found = json.loads((run / "evaluation.json").read_text())
    assert found["styles"]["kept"]["image"].keys() == {"reason"}
    assert "not of [3, 40, 40]" in found["styles"]["kept"]["image"]["reason"]
    assert found["styles"]["diversity"]["speech->image"] == {}
    assert "kept, image: reason no measure of style" in capsys.readouterr().out
    assert 0 <= found["coherence"]["judge_accuracy"]["image"] <= 1


def test_figures_are_in_colour(coloured):
    run, _ = coloured
    assert figures.main([str(run), "--only", "joint", "--formats", "png"]) == 0
    assert is_coloured(run / "figures" / "joint-from-image.png")


def is_coloured(file):
    """More than the frames of originals."""
    pixels = np.asarray(Image.open(file).convert("RGB")).astype(int)
    return (abs(pixels[..., 0] - pixels[..., 2]) > 100).mean() > 0.03


def test_a_report_shows_pictures_in_colour(coloured, drawn, tmp_path):
    assert report.main([str(coloured[0]), "--out", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    (original, *_) = re.findall(r'src="data:image/png;base64,([^"]+)" alt="image, original', page)
    assert is_coloured(io.BytesIO(base64.b64decode(original)))


def test_a_run_in_colour_is_criticised(coloured):
    run, _ = coloured
    few = ["--limit", "4", "--num-samples", "2", "--likelihood-examples", "4"]
    assert criticise.main([str(run), *few, "--importance-samples", "3"]) == 0
    assert (run / "inference_data.nc").exists()


def test_pictures_are_generated_and_read_in_colour(coloured, tmp_path):
    run, _ = coloured
    picture = run.parent / "flag-0.png"
    for command in (
        ["translate", "--from", picture, "--draws", "1"],
        ["reconstruct", "--from", picture],
        ["restyle", "--from", picture, "--style", run.parent / "flag-1.png"],
    ):
        out = tmp_path / command[0]
        assert generate.main([command[0], str(run), *map(str, command[1:]), "--out", str(out)]) == 0
    with Image.open(tmp_path / "reconstruct" / "from-image.png") as image:
        assert (image.mode, image.size) == ("RGB", (200, 200))
        seen = np.asarray(image)[::5, ::5]
    np.testing.assert_array_equal(seen, np.asarray(Image.open(picture)))
    with np.load(tmp_path / "restyle" / "generated.npz") as arrays:
        assert arrays["restyled-image"].shape == (40, 40, 3)


def test_prepare_says_why_pictures_are_in_colour(coloured, tmp_path, capsys):
    _, options = coloured
    given = [word for word in options if word not in ("--num-cells", "8", "--no-report")]
    assert prepare.main([*given, "--out", str(tmp_path)]) == 0
    assert "33 of 33 hold colour" in capsys.readouterr().out


def test_a_run_of_before_has_grey_pictures_of_28_pixels(small_runs, coloured):
    """Whatever colours the files have: no option chose colours then."""
    for folder, colour in ((small_runs["pvae"], "grey"), (coloured[0], "grey")):
        content = json.loads((folder / "config.json").read_text())
        for name in ("image_shape", "image_size", "image_colour"):
            del content[name]
        config = config_of_json(json.dumps(content).encode())
        assert (config.image_shape, config.image_size, config.image_colour) == (None, None, colour)


@pytest.fixture(scope="module")
def long_run(environment, tmp_path_factory):
    """The folder of a run on sounds of six seconds."""
    folder = tmp_path_factory.mktemp("long")
    options = small_corpus(folder)
    rng = np.random.default_rng(0)
    for path in folder.glob("*.wav"):
        soundfile.write(path, rng.normal(0, 0.1, 8000 * 6), 8000)
    options += ["--max-seconds", "8", "--epochs", "1", "--augment", "speech"]
    assert run_svi.main([*options, "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_sounds_of_six_seconds_train_and_are_scored_and_generated(long_run, drawn, tmp_path):
    assert read_config(long_run).max_frames == 601
    only = ["--only", "coherence", "fidelity", "log_likelihood"]
    assert evaluate.main([str(long_run), *EVALUATE, *only]) == 0
    sound = long_run.parent / "train-a-0.wav"
    made = ["reconstruct", str(long_run), "--from", str(sound), "--out", str(tmp_path / "out")]
    assert generate.main(made) == 0
    samples, rate = soundfile.read(tmp_path / "out" / "from-speech.wav")
    assert len(samples) / rate == pytest.approx(6, abs=0.05)
    with np.load(tmp_path / "out" / "generated.npz") as arrays:
        assert arrays["from-speech"].shape == (80, 601)


def test_nothing_cuts_what_is_generated_to_three_seconds(long_run):
    """The network of durations begins near its longest / 3, and may say up to its longest."""
    model, _ = load_run(long_run)
    likelihood = model.likelihoods["speech"]
    with torch.no_grad():
        likelihood.duration[-1].bias.fill_(np.log(500))
        likelihood.duration[-1].weight.zero_()
    z = {"z_sem": torch.zeros(2, 32), "z_style_speech": torch.zeros(2, 32)}
    assert decode(model, z, ["speech"])["speech"].lengths.tolist() == [500, 500]
