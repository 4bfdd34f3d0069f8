"""The command that checks a corpus and computes its features."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from pvae_pyro.experiments import prepare


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def manifest(tmp_path) -> Path:
    """Words of three speakers, one of them in both splits; one file and one line are bad."""
    rng = np.random.default_rng(0)
    lines = ["path,label,speaker,split"]
    for n, (speaker, split) in enumerate(
        [("ann", "train"), ("bob", "train"), ("bob", "test"), ("eve", "test")]
    ):
        for label in ("<yes>", "no") if n < 3 else ("no", "maybe"):
            name = f"{speaker}-{split}-{label.strip('<>')}.wav"
            noise = rng.normal(0, 0.1, 8000 + 800 * n)
            noise[:3000] *= 1e-3
            soundfile.write(tmp_path / name, noise, 8000)
            lines.append(f"{name},{label},{speaker},{split}")
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    lines += ["bad.wav,no,ann,train", "ann-train-no.wav,no,ann,dev"]
    path = tmp_path / "words.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def _run(*arguments) -> int:
    return prepare.main([str(argument) for argument in arguments])


def test_the_report_counts_recordings_classes_and_speakers(manifest, tmp_path, capsys):
    out = tmp_path / "out"
    assert _run("--dataset", f"manifest:{manifest}", "--out", out) == 0
    report = json.loads((out / "report.json").read_text())
    train, test = report["splits"]["train"], report["splits"]["test"]
    assert train["recordings"] == 4
    assert train["classes"] == {"<yes>": 2, "no": 2}
    assert train["speakers"] == {"ann": 2, "bob": 2}
    seconds = {"sum": 4.2, "mean": 1.05, "sd": 0.05, "min": 1.0, "median": 1.05, "max": 1.1}
    assert train["seconds"] == seconds
    assert test["classes"] == {"<yes>": 1, "maybe": 1, "no": 2}
    assert report["speakers_in_both"] == ["bob"]
    assert report["recorded_rates"] == {"8000": 8}
    assert report["left_out"] == {"unknown split": 1, "header": 1}
    assert [p["name"] for p in report["problems"]] == ["words.csv:11", "bad.wav"]
    assert report["warnings"] == [
        "1 of the 2 test speakers are in the training split too",
        "in the test split but not in training: maybe",
    ]
    assert report["versions"]["torch"]
    assert report["config"]["dataset"] == f"manifest:{manifest}"
    text = capsys.readouterr().out
    assert "left out: 2 (1 unknown split, 1 header)" in text
    assert "WARNING: 1 of the 2 test speakers" in text
    assert f"{tmp_path}/bad.wav: " in text


def test_unusual_levels_and_digital_silence_cause_warnings(manifest, tmp_path, capsys):
    samples, rate = soundfile.read(tmp_path / "ann-train-no.wav")
    soundfile.write(tmp_path / "ann-train-no.wav", samples * 1e-2, rate, subtype="FLOAT")
    padded = np.concatenate([samples, np.zeros(9000)])
    soundfile.write(tmp_path / "bob-train-no.wav", padded, rate)
    out = tmp_path / "out"
    assert _run("--dataset", f"manifest:{manifest}", "--out", out) == 0
    level, silence = json.loads((out / "report.json").read_text())["warnings"][-2:]
    assert level.startswith("1 recordings")
    assert "ann-train-no.wav at -6" in level
    assert silence.startswith("1 recordings are digital silence")
    assert "bob-train-no.wav" in silence
    assert "ann-train-no.wav at -6" in capsys.readouterr().out
    for path in tmp_path.glob("*-*.wav"):
        samples, rate = soundfile.read(path)
        soundfile.write(path, samples / np.abs(samples).max() / 999, rate, subtype="FLOAT")
    _run("--dataset", f"manifest:{manifest}", "--out", out)
    assert "WARNING: the recordings are faint" in capsys.readouterr().out


def test_images_are_checked_too(manifest, tmp_path, capsys):
    lines = ["path,label,split"]
    for n, (label, split) in enumerate(
        [("<yes>", "train"), ("no", "train"), ("<yes>", "test"), ("no", "test")]
    ):
        pixels = np.zeros((28, 28), np.uint8)
        pixels[n] = 255
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
        lines.append(f"{n}.png,{label},{split}")
    images = tmp_path / "drawings.csv"
    images.write_text("\n".join([*lines, "none.png,no,test\n"]))
    out = tmp_path / "out"
    arguments = ["--dataset", f"manifest:{manifest}", "--image-dataset", f"manifest:{images}"]
    assert _run(*arguments, "--out", out) == 1
    report = json.loads((out / "report.json").read_text())
    assert report["images"]["splits"]["train"]["classes"] == {"<yes>": 1, "no": 1}
    assert report["images"]["left_out"] == {"missing": 1}
    assert report["errors"] == ["no test image of class maybe"]
    text = capsys.readouterr().out
    assert "ERROR: no test image of class maybe: run_svi.py will refuse this" in text


def test_a_corpus_that_cannot_be_trained_on(manifest, tmp_path, capsys):
    manifest.write_text(manifest.read_text().replace(",test", ",train"))
    assert _run("--dataset", f"manifest:{manifest}", "--out", tmp_path / "out") == 1
    text = capsys.readouterr().out
    assert "ERROR: no test recordings: run_svi.py will refuse this" in text
    assert "WARNING: the test split is empty" in text


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ([], 8),
        (["--min-seconds", "1.05"], 6),
        (["--max-seconds", "1.35"], 8),
        (["--limit", "1"], 4),  # one of five is the bad file
        (["--vad-hangover", "0.1"], 8),  # who says how, wants it trimmed
        (["--trim"], 8),
    ],
)
def test_options_reach_the_corpus(manifest, tmp_path, options, left):
    out = tmp_path / "out"
    assert _run("--dataset", f"manifest:{manifest}", *options, "--out", out) == 0
    report = json.loads((out / "report.json").read_text())
    assert sum(found["recordings"] for found in report["splits"].values()) == left
    trimmed = any("trim" in o or "vad" in o for o in options)
    assert any("Silence at the ends" in note for note in report["notes"]) == trimmed


@pytest.mark.parametrize(
    ("options", "told"),
    [(["--min-seconds", "3"], "--max-seconds"), (["--sample-rate", "20"], "--sample-rate 20")],
)
def test_options_out_of_bounds_are_refused(options, told, capsys):
    with pytest.raises(SystemExit) as stopped:
        _run("--dataset", "fsdd", *options)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


def test_strict_stops_with_an_error(manifest, tmp_path, capsys):
    out = tmp_path / "out"
    assert _run("--dataset", f"manifest:{manifest}", "--strict", "--out", out) == 1
    assert "error: --strict: words.csv:11: unknown split 'dev'" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--dataset", "timit"], "unknown dataset 'timit'; choose from tidigit, secuvoice, fsdd"),
        (["--dataset", "manifest:none.csv"], "none.csv: cannot be read (No such file"),
        (["--dataset", "tidigit", "--phone", "A"], "--phone: not an option of tidigit"),
        (["--dataset", "tidigit", "--require-corpus"], "no TIDIGITS utterance of adults"),
        (["--dataset", "tidigit", "--speakers", "all"], "no TIDIGITS utterance of all"),
        (["--dataset", "an4", "--data", "."], "an4"),
        (["--dataset", "mswc", "--data", "."], "mswc"),
    ],
)
def test_errors_name_the_dataset_or_option(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PVAE_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("PVAE_OFFLINE", "1")
    assert _run(*arguments, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert told in error
