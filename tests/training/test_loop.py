"""The loop writes its records, stops on request, and resumes bit for bit."""

import os
import signal
import sys
import time

import pytest
import torch

from pvae_pyro.training import loop
from pvae_pyro.training.checkpoint import CHECKPOINT, load_checkpoint, load_extra, load_weights
from pvae_pyro.training.loop import fit
from pvae_pyro.training.records import METRICS
from tests.support.tiny import tiny_loader, tiny_svi
from tests.support.training import interrupted, metrics, moved, run, snapshot


def test_metrics_hold_every_term_once_an_epoch(tmp_path):
    run(tmp_path)
    records = metrics(tmp_path)
    assert [(r["epoch"], r["step"]) for r in records] == [(1, 5), (2, 10), (3, 15)]
    expected = {"objective", "elbo", "coherence", "contrastive", "kl/z_sem", "kl/z_style_speech"}
    expected |= {"log_prob/speech", "log_prob/image", "log_prob/speech_log_frames"}
    for record in records:
        assert expected <= record.keys()
        assert record["objective"] == pytest.approx(
            record["elbo"] - record["coherence"] - 100 * record["contrastive"], rel=1e-4
        )
    assert records[-1]["objective"] > records[0]["objective"]
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_mean_of_an_epoch_weighs_examples_not_batches(tmp_path):
    """With a learning rate of zero, batches of any size give the same mean of the KL."""
    values = []
    for size in (23, 4):
        folder = tmp_path / str(size)
        folder.mkdir()
        torch.manual_seed(0)
        svi = tiny_svi(0, learning_rate=0.0)
        loader = tiny_loader(batch_size=size)
        fit(svi, loader, num_epochs=1, folder=folder, show_progress=False)
        values.append(metrics(folder)[0]["kl/z_sem"])
    assert values[0] == pytest.approx(values[1], rel=1e-5)


@pytest.mark.parametrize(
    ("after", "number"),
    [(0, signal.SIGINT), (7, signal.SIGTERM), (14, signal.SIGINT)],  # 14: the last step
)
def test_interrupted_run_resumes_bit_for_bit(tmp_path, after, number):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    expected, _ = run(whole, warm_up_steps=10)
    _, progress = run(stopped, loader=interrupted(tiny_loader(), after, number), warm_up_steps=10)
    assert progress.interrupted
    assert progress.step == after + 1
    torch.manual_seed(99)
    svi, progress = run(stopped, seed=5, resume=True, warm_up_steps=10)
    assert not progress.interrupted
    assert progress.step == 15
    for a, b in zip(snapshot(expected), snapshot(svi), strict=True):
        assert torch.equal(a, b)
    assert metrics(stopped) == metrics(whole)


def test_the_learning_rate_rises_in_the_first_steps(tmp_path, monkeypatch):
    svi, rates = tiny_svi(learning_rate=0.008), []
    update = svi.update

    def recorded(batch):
        rates.append(svi.optim.param_groups[0]["lr"])
        return update(batch)

    monkeypatch.setattr(svi, "update", recorded)
    run(tmp_path, num_epochs=1, svi=svi, warm_up_steps=8)
    run(tmp_path, num_epochs=2, svi=svi, warm_up_steps=8, resume=True)
    risen = [0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007]
    assert rates == pytest.approx([*risen, 0.008, 0.008, 0.008])


def test_a_stop_while_the_last_checkpoint_is_written(tmp_path, monkeypatch):
    """The training is complete but interrupted; resuming it finds nothing to do."""
    save = loop.save_checkpoint

    def stopped(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        save(*args, **kwargs)

    monkeypatch.setattr(loop, "save_checkpoint", stopped)
    svi, progress = run(tmp_path, num_epochs=1)
    assert (progress.epoch, progress.interrupted) == (1, True)
    monkeypatch.undo()
    again, progress = run(tmp_path, num_epochs=1, resume=True)
    assert (progress.epoch, progress.interrupted) == (1, False)
    assert not any(moved(snapshot(svi), again))


def test_killed_between_metrics_and_checkpoint(tmp_path):
    """The record of an epoch after the checkpoint, and half a line, are written anew."""
    run(tmp_path, num_epochs=1)
    lines = (tmp_path / METRICS).read_text()
    (tmp_path / METRICS).write_text(
        lines + lines.replace('"epoch": 1', '"epoch": 2') + '{"epoch": 3'
    )
    run(tmp_path, num_epochs=3, resume=True)
    assert [r["epoch"] for r in metrics(tmp_path)] == [1, 2, 3]
    assert [r["step"] for r in metrics(tmp_path)] == [5, 10, 15]


def test_checkpoint_gives_back_weights_extra_and_progress(tmp_path):
    svi, progress = run(tmp_path, extra={"speech.loc": torch.arange(3.0)})
    other = tiny_svi(seed=8)
    load_weights(tmp_path / CHECKPOINT, other.model, other.guide)
    for a, b in zip(snapshot(svi), snapshot(other), strict=True):
        assert torch.equal(a, b)
    assert load_extra(tmp_path / CHECKPOINT)["speech.loc"].tolist() == [0.0, 1.0, 2.0]
    assert load_checkpoint(tmp_path / CHECKPOINT, other).step == progress.step


def test_spoilt_weights_are_not_saved(tmp_path, monkeypatch):
    """If a step with finite terms spoils the weights, the last good checkpoint stays."""
    run(tmp_path, num_epochs=1)
    good = (tmp_path / CHECKPOINT).read_bytes()
    svi = tiny_svi()
    update = svi.update

    def spoil(batch):
        means = update(batch)
        with torch.no_grad():
            next(svi.model.parameters()).fill_(float("nan"))
        return means

    monkeypatch.setattr(svi, "update", spoil)
    loader = tiny_loader(batch_size=23)
    with pytest.raises(FloatingPointError, match="weights"):
        fit(svi, loader, num_epochs=1, folder=tmp_path, show_progress=False)
    assert (tmp_path / CHECKPOINT).read_bytes() == good


def test_tensorboard_keeps_every_epoch_over_a_resume(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path, num_epochs=2)
    time.sleep(1 - time.time() % 1)  # files of one second are not in order
    run(tmp_path, num_epochs=3, resume=True)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("objective")] == [5, 10, 15]


def test_a_missing_tensorboard_is_logged(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    run(tmp_path, num_epochs=2)
    assert "tensorboard" in caplog.text
    assert not list(tmp_path.glob("events*"))
    assert [record["epoch"] for record in metrics(tmp_path)] == [1, 2]


def test_shared_networks_can_be_saved(tmp_path):
    svi = tiny_svi()
    svi.guide.unimodal["image"].encoders["image"] = svi.guide.multimodal.encoders["image"]
    assert len(list(svi.parameters())) == len({id(p) for p in svi.parameters()})
    fit(svi, tiny_loader(), num_epochs=1, folder=tmp_path, show_progress=False)
    load_weights(tmp_path / CHECKPOINT, svi.model, svi.guide)
