"""The command, as a user runs it, at a tiny size."""

import json
import os
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file

from pvae_pyro.experiments import report, run_svi
from pvae_pyro.experiments.support.command import INTERRUPTED
from pvae_pyro.experiments.support.saved_run import load_run
from pvae_pyro.models.priors import StandardNormal
from pvae_pyro.svi import SVI
from tests.support.tiny_run import TINY, command

pytest.importorskip("espeakng_loader")


@pytest.fixture
def here(cache, monkeypatch, capsys):
    """`command`, but in this process: to start another takes six seconds."""
    for name, value in cache.items():
        monkeypatch.setenv(name, value)

    def run(arguments):
        capsys.readouterr()
        try:
            code = run_svi.main([str(argument) for argument in arguments])
        except SystemExit as stopped:
            code = stopped.code
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return run


def test_results_describe_the_run(finished):
    folder, done = finished
    results = json.loads((folder / "results.json").read_text())
    for score in ("purity", "nmi", "ari", "active_units"):
        assert results[score].keys() == {"z_sem", "z_style"}
        for latent in ("z_sem", "z_style"):
            assert results[score][latent].keys() == {"speech", "image"}
    assert 0.1 <= results["purity"]["z_sem"]["speech"] <= 1.0
    assert results["stand_in"] is True
    assert "eSpeak" in results["corpus"]
    assert (results["seed"], results["epochs"], results["steps"]) == (0, 2, 2)
    assert results["seconds_training"] > 0
    assert results["versions"]["pyro-ppl"]
    assert results["git_commit"]
    assert results["config"] == json.loads((folder / "config.json").read_text())
    assert results["config"]["preset"] in ("quick", "paper")
    for text in (done.stdout, (folder / "run.log").read_text()):
        assert "STAND-IN: TIDIGIT is licensed" in text
        assert "figures are not comparable" in text
    assert "z_style" in done.stdout
    assert "99.77" in done.stdout


def test_progress_and_files(finished):
    folder, done = finished
    assert "2/2" in done.stderr
    names = {path.name.split(".")[0] for path in folder.iterdir()}
    assert names == {"config", "metrics", "checkpoint", "results", "run", "events"}
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_second_run_in_one_folder_is_refused(finished, here):
    folder, _ = finished
    before = (folder / "results.json").read_bytes()
    done = here([*TINY, "--out", folder])
    assert done.returncode == 1
    assert "holds a run" in done.stderr
    assert (folder / "results.json").read_bytes() == before


def test_another_process_makes_the_same_bits(finished, cache, tmp_path):
    """With no feature from the cache, and another hash of every string."""
    folder, _ = finished
    other = {**cache, "PVAE_CACHE": str(tmp_path / "cache"), "PYTHONHASHSEED": "7"}
    done = command([*TINY, "--epochs", 2, "--out", tmp_path / "run"], other)
    assert done.returncode == 0, done.stderr
    (weights, again) = (load_file(f / "checkpoint.safetensors") for f in (folder, tmp_path / "run"))
    assert len(weights) > 200  # of both networks, their optimiser, random states
    assert weights.keys() == again.keys()
    for name, values in weights.items():
        assert torch.equal(values, again[name]), name
    lines = [(f / "metrics.jsonl").read_text().splitlines() for f in (folder, tmp_path / "run")]
    epochs, again = ([json.loads(line) | {"seconds": 0} for line in of] for of in lines)
    assert len(epochs) == 2
    assert epochs == again
    made, again = (json.loads((f / "results.json").read_text()) for f in (folder, tmp_path / "run"))
    assert {key for key in made if made[key] != again[key]} <= {
        "seconds_training",
        "seconds_evaluating",
    }


def test_priors_are_fitted_after_training_and_again_after_more_of_it(small_runs, here, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(small_runs["pvae"], folder)
    results = json.loads((folder / "results.json").read_text())
    fitted, plain = load_run(folder)[0], load_run(folder, fitted=False)[0]
    assert len(fitted.prior.loc) == results["fit"]["components"]["prior"]
    assert set(fitted.style_maps) == {"speech", "image"}
    assert isinstance(plain.prior, StandardNormal)
    assert not plain.style_maps
    weights = fitted.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in plain.state_dict().items())
    assert results["fit"]["test_terms"].keys() == results["test_terms"].keys()

    done = here(["--resume", folder, "--epochs", results["epochs"] + 1, "--no-report"])
    assert done.returncode == 0, done.stderr
    again = load_run(folder)[0].prior.loc
    assert again.shape != fitted.prior.loc.shape or not torch.equal(again, fitted.prior.loc)


def test_another_number_of_threads_is_reported(small_runs, here, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(small_runs["pvae"], folder)
    path = folder / "config.json"
    content = json.loads(path.read_text())
    assert content["threads"] == torch.get_num_threads() == 1
    assert "OMP_NUM_THREADS" not in (folder / "run.log").read_text()
    path.write_text(json.dumps(content | {"threads": 3}))
    done = here(["--resume", folder, "--no-report"])
    assert done.returncode == 0, done.stderr
    assert "OMP_NUM_THREADS=3" in done.stdout
    assert json.loads(path.read_text())["threads"] == 1
    assert json.loads((folder / "results.json").read_text())["threads"] == 1


def test_an_interrupted_run_is_saved_and_resumed(here, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    metrics, update = folder / "metrics.jsonl", SVI.update

    def interrupted(svi, batch):
        if metrics.exists():
            os.kill(os.getpid(), signal.SIGINT)
        return update(svi, batch)

    with monkeypatch.context() as patch:
        patch.setattr(SVI, "update", interrupted)
        done = here([*TINY, "--epochs", "1000000", "--out", folder])
    assert done.returncode == INTERRUPTED
    assert f"--resume {folder}" in done.stdout + done.stderr
    assert not (folder / "results.json").exists()
    done_epochs = len(metrics.read_text().splitlines())
    assert 1 <= done_epochs < 1_000_000

    done = here(["--resume", folder, "--epochs", done_epochs + 2, "--no-report"])
    assert done.returncode == 0, done.stderr
    assert len(metrics.read_text().splitlines()) == done_epochs + 2
    assert json.loads((folder / "results.json").read_text())["epochs"] == done_epochs + 2


def test_resume_refuses_other_options_and_missing_runs(finished, small, here, tmp_path):
    folder, _ = finished
    done = here(["--resume", folder, "--beta", "7"])
    assert done.returncode == 1
    assert "--beta 7.0 (the run: 60.0)" in done.stderr
    beta_zero = here([*small, "--epochs", 1, "--beta", 0, "--out", tmp_path / "zero"])
    assert beta_zero.returncode == 0, beta_zero.stderr
    done = here(["--resume", tmp_path / "zero", "--beta", 100])
    assert "--beta 100.0 (the run: 0.0)" in done.stderr
    done = here(["--resume", folder, "--epochs", 1])
    assert "has 2 epochs already" in done.stderr
    done = here(["--resume", tmp_path / "nothing"])
    assert done.returncode == 1
    assert "nothing" in done.stderr


def test_require_corpus_says_where_to_get_it(here, tmp_path):
    done = here(["--dataset", "tidigit", "--require-corpus", "--out", tmp_path / "r"])
    assert done.returncode == 1
    assert "https://catalog.ldc.upenn.edu/LDC93S10" in done.stderr


def test_unusable_folders_and_datasets_are_named(here, tmp_path):
    (tmp_path / "file").write_text("mine")
    for arguments, message in (
        (["--out", tmp_path / "file"], "file"),
        (["--out", tmp_path], "is not empty: it holds file"),
        (["--dataset", "timit", "--out", tmp_path / "r"], "unknown dataset 'timit'"),
        (["--data", tmp_path / "nothing"], "is not a folder"),
        (["--seed", "-1"], "--seed"),
    ):
        done = here([*TINY, *arguments])
        assert done.returncode in (1, 2)
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("model", "modalities", "latents", "kinds"),
    [
        ("jmvae", ["speech", "image"], 96, {"objective", "elbo", "coherence", "contrastive"}),
        ("vae-speech", ["speech"], 64, {"objective", "elbo"}),
        ("vae-image", ["image"], 64, {"objective", "elbo"}),
    ],
)
def test_results_of_the_baselines(small_runs, model, modalities, latents, kinds):
    folder = small_runs[model]
    results = json.loads((folder / "results.json").read_text())
    assert results["model"] == model
    for score in ("purity", "nmi", "ari", "hungarian", "active_units"):
        assert list(results[score]) == ["z"]
        assert list(results[score]["z"]) == modalities
    terms = results["test_terms"]
    assert {name for name in terms if "/" not in name} == kinds
    assert {name for name in terms if name.startswith("kl/")} == {"kl/z"}
    observed = {"speech": {"speech", "speech_log_frames"}, "image": {"image"}}
    assert {name for name in terms if name.startswith("log_prob/")} == {
        f"log_prob/{site}" for name in modalities for site in observed[name]
    }
    # JMVAE-kl has no contrast, whatever β is; a VAE is its ELBO alone.
    coherence = results["config"]["alpha"] * terms.get("coherence", 0.0)
    assert terms["objective"] == pytest.approx(terms["elbo"] - coherence, rel=1e-5)
    trained, guide = load_run(folder)
    assert trained.latent_dim == latents
    assert list(guide.unimodal) == list(trained.likelihoods) == modalities
    # As many examples as of a PVAE: the speech leads, whether it is modelled or not.
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(metrics) == results["epochs"] == results["steps"] == 2


def test_manifests_of_speech_and_images(here, tmp_path, monkeypatch):
    """Anyone's own corpus: three classes with names, other rates, and files that are no use."""
    monkeypatch.setattr(report, "FIGURES", ["curves"])  # to draw all of them takes long
    rng = np.random.default_rng(0)
    words, drawings = ["path,label,speaker,split"], ["path,label,split"]
    for split in ("train", "test"):
        for n, label in enumerate(("árbol", "big dog", "<c>")):
            for copy in range(3):
                name = f"{split} {n} {copy}"
                rate = (8000, 44100, 16000)[copy]
                soundfile.write(tmp_path / f"{name}.wav", rng.normal(0, 0.1, rate // 4), rate)
                words.append(f"{name}.wav,{label},speaker {split},{split}")
                pixels = rng.integers(0, 256, (40, 30 + n), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / f"{name}.png")
                drawings.append(f"{name}.png,{label},{split}")
    Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8)).save(tmp_path / "more.png")
    drawings.append("more.png,a class of no speech,train")
    words += ["none.wav,<c>,x,train", "train 0 0.wav,<c>,x,dev"]
    for name, lines in (("words.csv", words), ("drawings.csv", drawings)):
        (tmp_path / name).write_text("\n".join(lines), "utf-8")
    data = ["--dataset", f"manifest:{tmp_path}/words.csv"]
    data += ["--image-dataset", f"manifest:{tmp_path}/drawings.csv"]
    out = tmp_path / "run"
    done = here([*data, "--num-cells", 8, "--epochs", 1, "--out", out])
    assert done.returncode == 0, done.stderr
    assert "left out: 2 (1 unknown split, 1 missing)" in done.stdout
    results = json.loads((out / "results.json").read_text())
    assert results["corpus"] == "manifest words.csv + manifest drawings.csv"
    assert results["stand_in"] is False
    assert results["classes"] == ["<c>", "big dog", "árbol"]
    assert results["left_out"] == {"missing": 1, "unknown split": 1}
    assert "report in" in done.stdout
    assert "<audio" in (out / "report.html").read_text("utf-8")
    # Nine test examples in three clusters.
    assert 1 / 3 <= results["purity"]["z_sem"]["speech"] <= 1
    going_on = here(["--resume", out, "--epochs", 2, "--no-report"])
    assert going_on.returncode == 0, going_on.stderr
