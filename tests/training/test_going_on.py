"""What a run may go on from: the command tells of what is damaged, and takes nothing away."""

import json
import logging
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file

from pvae_pyro.experiments import run_svi
from pvae_pyro.training.best import BEST
from pvae_pyro.training.checked_steps import BAD_BATCHES, Watch
from pvae_pyro.training.checkpoint import (
    CheckpointError,
    _read,
    load_checkpoint,
    previous,
    read_progress,
    save_checkpoint,
    sealed,
)
from pvae_pyro.training.loop import CHECKPOINT, METRICS, fit
from tests.robustness.test_faults import DAMAGE, flip
from tests.support.tiny import tiny_loader, tiny_svi
from tests.support.tiny_run import small_corpus
from tests.test_svi import snapshot
from tests.training.test_loop import Interrupted, metrics, run


@pytest.fixture(scope="module")
def two_sittings(tmp_path_factory):
    """A finished run of two epochs, with the checkpoint of the first beside that of the second."""
    place = tmp_path_factory.mktemp("sittings")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PVAE_CACHE", str(place / "cache"))
        patch.setenv("PVAE_OFFLINE", "1")
        (place / "data").mkdir()
        options = [*small_corpus(place / "data", copies=2), "--no-report"]
        assert run_svi.main([*options, "--epochs", "1", "--out", str(place / "run")]) == 0
        assert run_svi.main(["--resume", str(place / "run"), "--epochs", "2", "--no-report"]) == 0
        assert read_progress(previous(place / "run" / CHECKPOINT))["epoch"] == 1
        yield place / "run"


@pytest.fixture
def folder(two_sittings, tmp_path, monkeypatch):
    monkeypatch.setenv("PVAE_CACHE", str(two_sittings.parent / "cache"))
    monkeypatch.setenv("PVAE_OFFLINE", "1")
    shutil.copytree(two_sittings, tmp_path / "run")
    return tmp_path / "run"


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name != "run.log"}


@pytest.mark.parametrize("how", DAMAGE)
def test_the_command_goes_on_from_the_checkpoint_before(folder, two_sittings, how, capsys):
    DAMAGE[how](folder / CHECKPOINT)
    assert run_svi.main(["--resume", str(folder), "--no-report"]) == 0
    assert "going on from the one before, of step 1" in capsys.readouterr().out
    made, expected = (load_file(place / CHECKPOINT) for place in (folder, two_sittings))
    assert made.keys() == expected.keys()
    assert all(torch.equal(made[name], expected[name]) for name in made)
    assert metrics(folder) == metrics(two_sittings)


def spoil_bad_batches(folder):
    (folder / BAD_BATCHES).write_text("[]\n")


def other_position(folder):
    rewrite(folder / CHECKPOINT, batch=99)


def other_model(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model": "vae-image"}))


def rewrite(path, **changes):
    """The checkpoint of a tiny run or of a real one, at another position."""
    tensors, header = _read(path)
    header["progress"] |= changes
    path.write_bytes(sealed(tensors, json.dumps(header)))


def other_rate(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "learning_rate": 0.5, "seed": 7}))


@pytest.mark.parametrize("spoil", [spoil_bad_batches, other_position, other_model, other_rate])
def test_a_resume_that_fails_takes_nothing_away(folder, spoil, capsys):
    (folder / "report.html").write_text("of these weights")
    spoil(folder)
    before = contents(folder)
    assert "results.json" in before
    assert run_svi.main(["--resume", str(folder), "--epochs", "3", "--no-report"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error
    if spoil is other_rate:
        assert "learning_rate is 0.5, of it 0.001, seed is 7, of it 0" in error
    assert contents(folder) == before
    assert "error: " in (folder / "run.log").read_text().splitlines()[-1]


@pytest.mark.parametrize(
    "kept",
    [
        torch.ones(3, dtype=torch.bfloat16),
        torch.tensor([255, 254], dtype=torch.uint8),
        torch.tensor([*b"[]"], dtype=torch.uint8),
        torch.tensor([*(b"[" * 100_000)], dtype=torch.uint8),
        torch.tensor([*b'{"seed": NaN}'], dtype=torch.uint8),
    ],
    ids=["another type", "no text", "no object", "no end", "NaN"],
)
def test_a_configuration_in_a_checkpoint_that_is_none(folder, kept, capsys):
    tensors, header = _read(folder / CHECKPOINT)
    content = sealed({**tensors, "extra.config": kept}, json.dumps(header))
    (folder / CHECKPOINT).write_bytes(content)
    assert run_svi.main(["--resume", str(folder), "--no-report"]) == 1
    assert "holds another configuration" in capsys.readouterr().err


def test_results_of_earlier_weights_do_not_outlive_them(folder, monkeypatch):
    (folder / "report.html").write_text("of the weights before")

    def broken(*args, **kwargs):
        raise FloatingPointError("no")

    monkeypatch.setattr(Watch, "step", broken)
    assert run_svi.main(["--resume", str(folder), "--epochs", "3", "--no-report"]) == 1
    assert not (folder / "results.json").exists()
    assert not (folder / "report.html").exists()


def test_a_run_without_a_checkpoint_begins_anew_and_says_so(folder, two_sittings, capsys):
    for path in (folder / CHECKPOINT, previous(folder / CHECKPOINT)):
        path.unlink()
    assert run_svi.main(["--resume", str(folder), "--no-report"]) == 0
    assert "no checkpoint is left: beginning anew, with its 2 epochs" in capsys.readouterr().out
    assert metrics(folder) == metrics(two_sittings)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"batch": 6}, "6 batches of an epoch are done, of 5"),
        ({"batch": 2, "num_seen": 0, "sums": {}}, "2 batches are done, of no examples"),
        ({"batch": 2, "num_seen": 10, "sums": {}}, "no sum of the objective"),
        ({"epoch": 9}, "9 epochs are done, of 3"),
    ],
)
def test_positions_that_cannot_be(tmp_path, changes, told):
    run(tmp_path, num_epochs=1)
    rewrite(tmp_path / CHECKPOINT, **changes)
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match=told):
        run(tmp_path, num_epochs=3, resume=True)
    assert contents(tmp_path).items() >= before.items()


def test_amid_an_epoch_with_other_batches(tmp_path):
    run(tmp_path, loader=Interrupted(tiny_loader(), 3))
    with pytest.raises(CheckpointError, match="4 batches of an epoch are done, of 1"):
        run(tmp_path, loader=tiny_loader(batch_size=23), resume=True)


def test_a_finished_run_keeps_its_best(tmp_path):
    run(tmp_path, num_epochs=3, best_of=1)
    before = (tmp_path / BEST).read_bytes()
    run(tmp_path, num_epochs=3, best_of=1, resume=True)
    assert (tmp_path / BEST).read_bytes() == before


def test_a_best_that_is_damaged_is_told_of_and_kept(tmp_path, caplog):
    run(tmp_path, num_epochs=3, best_of=1)
    flip(tmp_path / BEST, 0.3)
    damaged = (tmp_path / BEST).read_bytes()
    with caplog.at_level(logging.WARNING):
        run(tmp_path, num_epochs=4, best_of=1, resume=True)
    assert f"{tmp_path / BEST} is not a whole checkpoint" in caplog.text
    assert (tmp_path / "best-damaged.safetensors").read_bytes() == damaged
    assert read_progress(tmp_path / BEST)["epoch"] == 4


def test_a_checkpoint_in_the_place_of_the_best(tmp_path, caplog):
    run(tmp_path, num_epochs=1, best_of=1)
    shutil.copy(tmp_path / CHECKPOINT, tmp_path / BEST)
    with caplog.at_level(logging.WARNING):
        run(tmp_path, num_epochs=2, best_of=2, resume=True)
    assert "is no best of a run" in caplog.text


def test_going_on_from_the_best(tmp_path):
    """By hand, as a user may: it is a checkpoint as well."""
    svi, _ = run(tmp_path, num_epochs=3, best_of=3)
    at = read_progress(tmp_path / BEST)
    os.replace(tmp_path / BEST, tmp_path / CHECKPOINT)
    again = tiny_svi()
    load_checkpoint(tmp_path / CHECKPOINT, again)
    save_checkpoint(tmp_path / CHECKPOINT, again, at)
    again = tiny_svi()
    loader = tiny_loader()
    fit(again, loader, num_epochs=3, folder=tmp_path, resume=True, show_progress=False)
    assert all(map(torch.equal, snapshot(again), snapshot(svi)))
    assert len((tmp_path / METRICS).read_text().splitlines()) == 3
