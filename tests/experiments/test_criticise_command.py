"""criticise.py on a tiny run."""

import json
import shutil

import numpy as np
import pytest

from pvae_pyro.experiments import criticise
from pvae_pyro.inference_data import import_arviz

QUICK = [
    *("--limit", "5", "--num-samples", "3"),
    *("--likelihood-examples", "8", "--importance-samples", "30"),
]


@pytest.fixture
def run(small_runs, environment, tmp_path):
    """A copy of the PVAE's run on the small corpus."""
    return shutil.copytree(small_runs["pvae"], tmp_path / "run")


def test_both_files_are_written(run, capsys):
    before = {path.name for path in run.iterdir()}
    assert criticise.main([str(run), *QUICK]) == 0
    written = {"inference_data.nc", "criticism.json"}
    assert {path.name for path in run.iterdir()} == before | written
    found = json.loads((run / "criticism.json").read_text())
    assert found["options"]["importance_samples"] == 30
    assert found["importance"].keys() == {"joint", "speech", "image"}
    joint = found["importance"]["joint"]
    assert len(joint["log_likelihoods"]) == joint["num_examples"] == 12  # all test pairs
    assert joint["log_likelihood"] == pytest.approx(np.mean(joint["log_likelihoods"]))
    assert found["predictive_check"]["speech"].keys() == {"mean", "sd", "energy", "duration"}
    assert found["predictive_check"]["image"].keys() == {"mean", "sd"}
    assert {"versions", "git_commit", "corpus", "config"} <= found.keys()
    printed = capsys.readouterr().out
    assert f"log p(joint) is not reliable; its bound is {joint['log_likelihood']:.2f}" in printed
    assert joint["reason"] in printed
    assert "duration of speech: posterior p" in printed

    data = import_arviz().from_netcdf(run / "inference_data.nc")
    assert dict(data["posterior"].sizes)["example"] == 5
    assert data["posterior"].sizes["draw"] == 3
    hertz = data["observed_data"].coords["speech_bin"].values
    assert len(hertz) == 80
    assert 20 < hertz[0] < hertz[-1] < 4000
    seconds = data["observed_data"].coords["speech_frame"].values
    assert np.diff(seconds) == pytest.approx(0.01)


def test_an_unfinished_run_is_an_error(run, capsys):
    (run / "results.json").unlink()
    assert criticise.main([str(run), *QUICK]) == 1
    assert "is not finished" in capsys.readouterr().err
