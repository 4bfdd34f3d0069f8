"""What a run may be resumed from; a resume that fails takes nothing away."""

import json
import os
import shutil
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from pvae_pyro import distributed
from pvae_pyro.experiments import run_svi
from pvae_pyro.training import loop
from pvae_pyro.training.checked_steps import CheckedSteps
from pvae_pyro.training.checkpoint import (
    CHECKPOINT,
    CheckpointError,
    checkpoint_bytes,
    load_checkpoint,
    read_progress,
)
from tests.support.tiny import tiny_loader
from tests.support.tiny_run import small_corpus
from tests.support.training import interrupted, metrics, run


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name != "run.log"}


def rewrite(path, **changes):
    """Change the position in a checkpoint, with a correct checksum."""
    progress = read_progress(path).model_dump() | changes
    path.write_bytes(checkpoint_bytes(load_file(path), json.dumps({"progress": progress})))


DAMAGE = {
    "header": lambda path: flip(path, 0.0005),
    "weights": lambda path: flip(path, 0.2),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_checkpoint_is_an_error_that_names_it(tmp_path, how):
    run(tmp_path, num_epochs=1)
    path = tmp_path / CHECKPOINT
    DAMAGE[how](path)
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match=str(path)):
        run(tmp_path, resume=True)
    assert contents(tmp_path) == before


def test_a_checkpoint_of_other_tensors_is_refused(tmp_path):
    svi, _ = run(tmp_path, num_epochs=1)
    path = tmp_path / CHECKPOINT
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        load_checkpoint(path, svi)


def test_a_position_past_the_end_of_an_epoch_is_refused(tmp_path):
    run(tmp_path, loader=interrupted(tiny_loader(), 3))
    with pytest.raises(CheckpointError, match="4 batches .* only 1"):
        run(tmp_path, loader=tiny_loader(batch_size=23), resume=True)


def test_a_resumed_training_goes_on_counting_its_seconds(tmp_path, monkeypatch):
    clock = SimpleNamespace(monotonic=count().__next__)  # a second each time it is asked
    monkeypatch.setattr(loop, "time", clock)
    _, first = run(tmp_path, num_epochs=1)
    _, both = run(tmp_path, num_epochs=2, resume=True)
    assert both.seconds == pytest.approx(2 * first.seconds, abs=3)


def test_processes_that_join_draw_their_own_noise(tmp_path, monkeypatch):
    svi, _ = run(tmp_path, num_epochs=1)
    draws = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        load_checkpoint(tmp_path / CHECKPOINT, svi)
        draws.append(torch.rand(3).tolist())
    assert draws[0] != draws[1] != draws[2] != draws[0]


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of the command, of two epochs in two sittings."""
    place = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PVAE_CACHE", str(place / "cache"))
        (place / "data").mkdir()
        options = small_corpus(place / "data", copies=2)
        assert run_svi.main([*options, "--epochs", "1", "--out", str(place / "run")]) == 0
        assert run_svi.main(["--resume", str(place / "run"), "--epochs", "2", "--no-report"]) == 0
        yield place / "run"


@pytest.fixture
def folder(trained, tmp_path):
    (trained / "report.html").write_text("of these weights")
    return shutil.copytree(trained, tmp_path / "run")


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: rewrite(folder / CHECKPOINT, batch=99), [CHECKPOINT]),
        (lambda folder: edit(folder, model="vae-image"), ["config.json", "model"]),
        (lambda folder: edit(folder, learning_rate=0.5, seed=7), ["learning_rate", "0.5", "seed"]),
        (lambda folder: os.truncate(folder / CHECKPOINT, 1000), [CHECKPOINT]),
    ],
    ids=["position", "model", "options", "damaged checkpoint"],
)
def test_a_resume_that_fails_takes_nothing_away(folder, spoil, told, capsys):
    spoil(folder)
    before = contents(folder)
    assert "results.json" in before
    assert run_svi.main(["--resume", str(folder), "--epochs", "3", "--no-report"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert all(part in error for part in told)
    assert contents(folder) == before
    assert "error: " in (folder / "run.log").read_text().splitlines()[-1]


def test_results_of_earlier_weights_do_not_outlive_them(folder, monkeypatch):
    def broken(*args, **kwargs):
        raise FloatingPointError("no")

    monkeypatch.setattr(CheckedSteps, "take", broken)
    assert run_svi.main(["--resume", str(folder), "--epochs", "3", "--no-report"]) == 1
    assert not (folder / "results.json").exists()
    assert not (folder / "report.html").exists()


def test_a_run_without_a_checkpoint_starts_again_and_says_so(folder, trained, capsys):
    (folder / CHECKPOINT).unlink()
    assert run_svi.main(["--resume", str(folder), "--no-report"]) == 0
    assert "no checkpoint" in capsys.readouterr().out
    assert metrics(folder) == metrics(trained)
