"""A second speech modality has its own corpus, features, normalisation and sounds."""

import json

import numpy as np
import pytest
import soundfile

from pvae_pyro.experiments import generate, run_svi
from pvae_pyro.experiments.support.data import load_data
from pvae_pyro.experiments.support.saved_run import open_run, read_config

pytest.importorskip("espeakng_loader")


@pytest.fixture(scope="module")
def run(environment, tmp_path_factory):
    """A run on a manifest's words at 8 kHz and on Spanish words at 16 kHz."""
    here = tmp_path_factory.mktemp("two")
    rng = np.random.default_rng(0)
    lines = ["path,label,speaker,split"]
    for split in ("train", "test"):
        for label in "01":
            for n in range(3):
                soundfile.write(here / f"{split}{label}{n}.wav", rng.normal(0, 0.1, 1600), 8000)
                lines.append(f"{split}{label}{n}.wav,{label},s{n},{split}")
    (here / "words.csv").write_text("\n".join(lines), "utf-8")
    options = ["--dataset", f"manifest:{here}/words.csv", "--modalities", "speech"]
    options += ["--modality", "spanish=speech:secuvoice"]
    options += ["--limit", "3", "--classes", "0,1", "--num-cells", "8", "--epochs", "1"]
    assert run_svi.main([*options, "--no-report", "--out", str(here / "run")]) == 0
    return here / "run"


def test_each_speech_has_its_own_features(run):
    config = read_config(run)
    assert config.names == ("speech", "spanish")
    assert config.sample_rates == {"speech": 8000, "spanish": 16000}
    results = json.loads((run / "results.json").read_text("utf-8"))
    assert results["corpus"] == "manifest words.csv + eSpeak NG digits (Spanish)"
    assert results["stand_in"] is True
    assert results["purity"]["z_sem"].keys() == {"speech", "spanish"}
    data = open_run(run, None).data
    assert data.train["speech"].normalisation is not data.train["spanish"].normalisation
    assert config.max_frames == max(of.lengths.max() for of in data.train.values())


def test_a_run_of_an_earlier_version_has_speech_and_image(run, tmp_path):
    kept = read_config(run).model_dump_json(exclude={"modalities", "modality", "sample_rates"})
    (tmp_path / "config.json").write_text(kept, "utf-8")
    earlier = read_config(tmp_path)
    assert earlier.names == ("speech", "image")
    assert list(load_data(earlier, tmp_path).train) == ["speech", "image"]


def test_a_sound_file_needs_a_modality_if_there_are_two_speeches(run, tmp_path, capsys):
    word = run.parent / "test00.wav"
    asked = ["translate", str(run), "--draws", "1", "--out", str(tmp_path / "out")]
    assert generate.main([*asked, "--from", str(word)]) == 1
    assert f"speech:{word} or spanish:{word}" in capsys.readouterr().err
    assert generate.main([*asked, "--from", f"spanish:{word}"]) == 0
    rates = {
        path.name: soundfile.info(path).samplerate for path in (tmp_path / "out").glob("*.wav")
    }
    assert rates == {"from-spanish.wav": 16000, "translated-speech.wav": 8000}
