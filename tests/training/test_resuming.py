"""What a run may be resumed from; a resume that fails takes nothing away."""

import errno
import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file

from pvae_pyro.experiments import run_svi
from pvae_pyro.training.checked_steps import CheckedSteps
from pvae_pyro.training.checkpoint import (
    CHECKPOINT,
    CheckpointError,
    load_checkpoint,
    previous,
    read_progress,
    recover,
    sealed,
)  # fmt: skip
from pvae_pyro.training.records import METRICS
from tests.support.tiny import tiny_loader, tiny_svi
from tests.support.tiny_run import small_corpus
from tests.support.training import Interrupted, metrics, run, snapshot


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)


DAMAGE = {
    "first byte": lambda path: flip(path, 0.0),
    "header": lambda path: flip(path, 0.0005),
    "weights": lambda path: flip(path, 0.2),
    "last byte": lambda path: flip(path, 1.0),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "gone": lambda path: path.unlink(),
}


def rewrite(path, **changes):
    """Change the position in a checkpoint, under a right checksum."""
    progress = read_progress(path).model_dump() | changes
    path.write_bytes(sealed(load_file(path), json.dumps({"progress": progress})))


@pytest.fixture(scope="module")
def two_sittings(tmp_path_factory):
    """A training stopped after two of three epochs, with the checkpoint of the first beside it;
    the weights and metrics of one that was not stopped."""
    folder, expected = (tmp_path_factory.mktemp(name) for name in ("two", "whole"))
    torch.manual_seed(0)
    run(folder, num_epochs=1)
    run(folder, num_epochs=2, resume=True)
    torch.manual_seed(0)
    svi, _ = run(expected, num_epochs=3)
    return folder, snapshot(svi), metrics(expected)


@pytest.fixture
def stopped(two_sittings, tmp_path):
    return shutil.copytree(two_sittings[0], tmp_path / "stopped")


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(
    two_sittings, stopped, how, caplog
):
    _, weights, records = two_sittings
    path = stopped / CHECKPOINT
    DAMAGE[how](path)
    svi, _ = run(stopped, seed=3, resume=True)
    assert str(path) in caplog.text
    assert all(map(torch.equal, weights, snapshot(svi)))
    assert metrics(stopped) == records
    assert (read_progress(path).step, read_progress(previous(path)).step) == (15, 5)
    assert (stopped / "checkpoint-damaged.safetensors").exists() == (how != "gone")


def test_two_damaged_checkpoints(stopped):
    path = stopped / CHECKPOINT
    for each in (path, previous(path)):
        flip(each, 0.7)
    before = {each.name: each.read_bytes() for each in stopped.iterdir()}
    with pytest.raises(CheckpointError, match=CHECKPOINT.removesuffix(".safetensors")):
        recover(path)
    with pytest.raises(CheckpointError, match=CHECKPOINT):
        load_checkpoint(path, tiny_svi())
    assert {each.name: each.read_bytes() for each in stopped.iterdir()} == before


def test_what_cannot_be_read_now_is_not_taken_for_damaged(stopped, monkeypatch):
    path, opened = stopped / CHECKPOINT, os.open

    def fail(name, *args, **kwargs):
        if name == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(name))
        return opened(name, *args, **kwargs)

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(CheckpointError, match=str(path)):
        recover(path)
    monkeypatch.undo()
    assert recover(path) is None
    assert not list(stopped.glob("*damaged*"))


def test_a_line_without_an_end_is_no_record(tmp_path):
    run(tmp_path, num_epochs=2)
    with open(tmp_path / METRICS, "a") as file:
        file.write('{"epoch": 3, "step": 1')
    run(tmp_path, num_epochs=3, resume=True)
    assert [record["epoch"] for record in metrics(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize(
    "changes",
    [{"batch": 6}, {"batch": 2, "num_seen": 0}, {"batch": 2, "num_seen": 10}, {"epoch": 9}],
)
def test_positions_that_cannot_be(tmp_path, changes):
    run(tmp_path, num_epochs=1)
    rewrite(tmp_path / CHECKPOINT, sums={}, **changes)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(CheckpointError, match=CHECKPOINT):
        run(tmp_path, num_epochs=3, resume=True)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_amid_an_epoch_with_other_batches(tmp_path):
    run(tmp_path, loader=Interrupted(tiny_loader(), 3))
    with pytest.raises(CheckpointError, match="4 batches .* only 1"):
        run(tmp_path, loader=tiny_loader(batch_size=23), resume=True)


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


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name != "run.log"}


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def damage_both(folder):
    for path in (folder / CHECKPOINT, previous(folder / CHECKPOINT)):
        os.truncate(path, 1000)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: rewrite(folder / CHECKPOINT, batch=99), [CHECKPOINT]),
        (lambda folder: edit(folder, model="vae-image"), ["config.json", "model"]),
        (lambda folder: edit(folder, learning_rate=0.5, seed=7), ["learning_rate", "0.5", "seed"]),
        (damage_both, ["checkpoint-previous.safetensors"]),
    ],
    ids=["position", "model", "options", "both checkpoints"],
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
    for path in (folder / CHECKPOINT, previous(folder / CHECKPOINT)):
        path.unlink()
    assert run_svi.main(["--resume", str(folder), "--no-report"]) == 0
    assert "no checkpoint" in capsys.readouterr().out
    assert metrics(folder) == metrics(trained)
