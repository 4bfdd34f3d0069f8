"""NaN and overflow: found in their step, named, kept out of the weights, and skipped on demand."""

from dataclasses import replace
from functools import partial

import numpy as np
import pyro
import pytest
import torch

from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.data.missing import missing_at_random
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.svi import SVI
from pvae_pyro.training import checked_steps
from pvae_pyro.training.checked_steps import CheckedSteps
from pvae_pyro.training.checkpoint import CHECKPOINT, read_progress
from pvae_pyro.training.loop import fit
from pvae_pyro.training.progress import Progress
from pvae_pyro.training.step_values import StepValues, modalities_of
from tests.support.tiny import (
    tiny_batch,
    tiny_examples,
    tiny_loader,
    tiny_pair,
    tiny_speech_svi,
    tiny_svi,
)
from tests.support.training import Interrupted, metrics, snapshot

BAD = 7  # the example that is not finite


def spoilt(value, which=BAD, names=None):
    """Loader of 23 examples, in five batches, one of which has a coefficient that is `value`."""
    examples = tiny_examples()
    speech = examples["speech"]
    frames = speech.values.copy()
    frames[speech.offsets[which], 2] = value
    return PairedLoader({**examples, "speech": replace(speech, values=frames)}, 5, names=names)


def place(loader, epoch=0):
    """The batch of that epoch that holds the bad example, and the image beside it."""
    for number in range(len(loader)):
        held = loader.held(epoch, number)
        if BAD in held["speech"]:
            return number, int(held["image"][list(held["speech"]).index(BAD)])
    raise AssertionError


def train(folder, loader, num_epochs=2, svi=None, **options):
    svi = svi or tiny_svi()
    options = {"show_progress": False, **options}
    return svi, fit(svi, loader, num_epochs=num_epochs, folder=folder, **options)


def test_held_is_what_the_batches_hold():
    loader = spoilt(0.0)
    for number, batch in enumerate(loader.epoch(3)):
        held = loader.held(3, number)
        for name, observation in batch.items():
            again = loader.examples[name].observation(held[name]).value
            assert torch.equal(again, observation.value)


@pytest.mark.parametrize(
    ("value", "kind"), [(np.nan, "NaN"), (1e30, "overflow"), (np.inf, "overflow")]
)
def test_it_is_caught_in_its_step_and_all_is_named(tmp_path, value, kind):
    loader = spoilt(value)
    number, image = place(loader)
    with pytest.raises(FloatingPointError) as error:
        train(tmp_path, loader, checkpoint_seconds=0.0)
    told = str(error.value)
    assert told.startswith(f"step {number + 1} (epoch 1, batch {number + 1} of 5) is not finite")
    assert f"{kind} in log_prob/speech" in told
    assert "modality: speech" in told
    assert f"examples speech: speech{BAD}; image: {image}." in told
    if number:
        assert read_progress(tmp_path / CHECKPOINT).step == number


@pytest.mark.parametrize("number", [0, 2, 4])
def test_it_is_caught_in_any_batch(tmp_path, number):
    """Also in the first, where Pyro's own checks are on."""
    which = int(spoilt(0.0).held(0, number)["speech"][-1])
    with pytest.raises(FloatingPointError, match=f"speech: speech{which}; image") as error:
        train(tmp_path, spoilt(np.nan, which))
    assert str(error.value).startswith(f"step {number + 1} ")


def test_pyros_checks_change_nothing_of_the_first_step(tmp_path):
    """They run before it, with noise of their own."""
    loader, found = spoilt(0.0), []
    for checked in (False, True):
        svi = tiny_svi()
        steps = CheckedSteps(svi, loader, skip=False)
        steps._first = checked
        steps.take(next(loader.epoch(0)), Progress())
        found.append([*snapshot(svi), torch.rand(1)])
    assert all(map(torch.equal, *found))


def test_what_else_pyro_refuses_is_an_error(tmp_path, monkeypatch):
    svi = tiny_svi()

    def refuse(batch):
        raise ValueError("a wrong shape")

    monkeypatch.setattr(svi, "terms", refuse)
    monkeypatch.setattr(svi, "update", lambda batch: {})
    svi.last_step = StepValues({}, torch.zeros(1), ["x"], torch.tensor(True))
    with pytest.raises(ValueError, match="a wrong shape"):
        train(tmp_path, tiny_loader(), svi=svi)


def test_weights_and_optimiser_are_left_alone(tmp_path):
    """Also by an optimiser that is not told by torch's own means."""
    for fused in (True, False):
        torch.manual_seed(0)
        adam = partial(torch.optim.Adam, lr=1e-3, fused=fused)
        svi = SVI(*tiny_pair(), adam, PartitionedELBO())
        svi.update(tiny_batch())
        before = everything(svi)
        bad = {**tiny_batch(), "speech": bad_speech()}
        with (
            pyro.validation_enabled(False),
            pytest.raises(FloatingPointError, match="not finite: log_prob/speech"),
        ):
            svi.step(bad)
        after = everything(svi)
        assert all(map(torch.equal, before, after)), fused
        svi.update(tiny_batch())
        assert not all(map(torch.equal, before, snapshot(svi)))


def everything(svi):
    of_optimiser = [value for state in svi.optim.state.values() for value in state.values()]
    return [*snapshot(svi), *(value.clone() for value in of_optimiser)]


def bad_speech():
    observation = tiny_batch()["speech"]
    value = observation.value.clone()
    value[2, 0] = torch.nan
    return replace(observation, value=value)


@pytest.mark.parametrize("fused", [True, False])
def test_the_check_changes_no_bit_of_a_step(fused):
    """A step is that of the plain recipe: backward of the mean loss, and the optimiser."""
    found = []
    for plain in (True, False):
        torch.manual_seed(0)
        svi = SVI(*tiny_pair(), partial(torch.optim.Adam, lr=1e-2, fused=fused), PartitionedELBO())
        for _ in range(3):
            if plain:
                svi.optim.zero_grad(set_to_none=True)
                (-svi.terms(tiny_batch())["objective"].mean()).backward()
                svi.optim.step()
            else:
                svi.update(tiny_batch())
        found.append(snapshot(svi))
    assert all(map(torch.equal, *found))


def test_a_gradient_alone(tmp_path):
    svi = tiny_svi()
    name, parameter = next((n, p) for n, p in svi.guide.named_parameters() if "unimodal.image" in n)
    parameter.register_hook(lambda gradient: gradient * torch.inf)
    before = snapshot(svi)
    with pytest.raises(FloatingPointError, match="step 1") as error:
        train(tmp_path, spoilt(0.0), svi=svi)
    assert f"in guide.{name} (modality: image)" in str(error.value)
    examples = str(error.value).partition("examples ")[2].partition(". The step")[0]
    assert examples.count(",") == 2 * 4  # all five of each modality
    assert all(map(torch.equal, before, snapshot(svi)))


def test_a_loss_whose_gradient_is_finite(tmp_path, monkeypatch):
    """What is added to it may have none."""
    svi = tiny_svi()
    before, terms = snapshot(svi), svi.loss.terms

    def with_more(*args, **kwargs):
        found = terms(*args, **kwargs)
        more = torch.zeros(5)
        more[3] = -torch.inf
        return {**found, "log_prob/image": found["log_prob/image"] + more} | {
            name: found[name] + more for name in ("elbo", "objective")
        }

    monkeypatch.setattr(svi.loss, "terms", with_more)
    loader = spoilt(0.0)
    bad = loader.held(0, 0)["speech"][3]
    with pytest.raises(FloatingPointError, match="overflow in log_prob/image") as error:
        train(tmp_path, loader, svi=svi)
    assert f"speech: speech{bad}; image" in str(error.value)
    assert all(map(torch.equal, before, snapshot(svi)))


@pytest.mark.parametrize("values", [[0, 0, 0, np.nan, 0], [2e38, 2e38, 2e38, 2e38, 2e38]])
@pytest.mark.parametrize("name", ["contrastive", "contrastive/speech/image"])
def test_a_term_that_is_only_reported(tmp_path, monkeypatch, name, values):
    """Of which the objective knows nothing; also one whose values are finite and their sum not."""
    svi, values = tiny_svi(), torch.tensor(values)
    before, terms = snapshot(svi), svi.loss.terms
    monkeypatch.setattr(svi.loss, "terms", lambda *args: terms(*args) | {name: values})
    loader = spoilt(0.0)
    with pytest.raises(FloatingPointError, match=f"step 1 .* in {name} .modality") as error:
        train(tmp_path, loader, svi=svi)
    bad = loader.held(0, 0)["speech"][3] if values.isnan().any() else None
    assert bad is None or f"speech: speech{bad}; image" in str(error.value)
    assert all(map(torch.equal, before, snapshot(svi)))


def test_skipped_batches_are_counted_told_and_left_out(tmp_path, caplog):
    loader = spoilt(np.nan)
    svi, progress = train(tmp_path, loader, num_epochs=3, skip_bad_batches=True)
    assert (progress.step, progress.skipped, progress.epoch) == (12, 3, 3)
    for epoch in range(3):
        assert f"epoch {epoch + 1}, batch {place(loader, epoch)[0] + 1} of 5" in caplog.text
    assert caplog.text.count("is skipped") == 3
    for parameter in svi.parameters():
        assert parameter.isfinite().all()
    for record in metrics(tmp_path):
        assert all(np.isfinite(value) for value in record.values())
    # Means are over what was seen: as if the learning rate were 0 and the batch not there.
    folder = tmp_path / "still"
    folder.mkdir()
    train(folder, loader, num_epochs=1, svi=tiny_svi(learning_rate=0.0), skip_bad_batches=True)
    seen = [n for n in range(5) if n != place(loader)[0]]
    kept = np.concatenate([loader.held(0, n)["speech"] for n in seen])
    still = tiny_svi()
    with torch.no_grad():
        observation = loader.examples["speech"].observation(kept)
        images = np.concatenate([loader.held(0, n)["image"] for n in seen])
        batch = {"speech": observation, "image": loader.examples["image"].observation(images)}
        expected = still.terms(batch)["kl/z_sem"].mean().item()
    assert metrics(folder)[0]["kl/z_sem"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("after", [0, 3, 6, 9])
def test_skipping_resumes_to_the_same_bits(tmp_path, after):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    loader = spoilt(np.nan, names=["speech"])

    def go_on(folder, loader, seed=0, **options):
        svi = tiny_speech_svi(seed)
        return train(folder, loader, svi=svi, skip_bad_batches=True, **options)

    expected, _ = go_on(whole, loader)
    go_on(stopped, Halting(loader, after))
    svi, progress = go_on(stopped, loader, seed=9, resume=True)
    assert (progress.step, progress.skipped) == (8, 2)
    assert all(map(torch.equal, snapshot(expected), snapshot(svi)))
    assert metrics(stopped) == metrics(whole)


class Halting(Interrupted):
    def held(self, epoch, batch):
        return self.loader.held(epoch, batch)

    @property
    def examples(self):
        return self.loader.examples


def test_a_resumed_run_meets_the_bad_batch_again(tmp_path):
    for resume in (False, True):
        with pytest.raises(FloatingPointError, match=f"speech{BAD}"):
            train(tmp_path, spoilt(np.nan), checkpoint_seconds=0.0, resume=resume)
    _, progress = train(tmp_path, spoilt(np.nan), resume=True, skip_bad_batches=True)
    assert (progress.skipped, progress.interrupted) == (2, False)


def test_an_epoch_without_a_good_batch_is_an_error(tmp_path):
    examples = tiny_examples()
    values = np.full_like(examples["speech"].values, np.nan)
    loader = PairedLoader({**examples, "speech": replace(examples["speech"], values=values)}, 5)
    with pytest.raises(FloatingPointError, match="no batch of epoch 1 was finite"):
        train(tmp_path, loader, skip_bad_batches=True)


def test_where_the_device_is_not_waited_for(tmp_path, monkeypatch):
    """As on CUDA, here by torch's fused Adam: told at the next look, and no weight is spoilt."""
    monkeypatch.setattr(checked_steps, "READ_AT_ONCE", ())
    loader = spoilt(np.nan)
    number, _ = place(loader)
    torch.manual_seed(0)
    svi = SVI(*tiny_pair(), partial(torch.optim.Adam, lr=1e-3, fused=True), PartitionedELBO())
    with pytest.raises(FloatingPointError, match=f"step {number + 1} .epoch 1, batch {number + 1}"):
        train(tmp_path, loader, svi=svi)
    steps = {float(state["step"]) for state in svi.optim.state.values()}
    assert steps == {4.0}  # of the five before the look, which the end of the epoch is
    for parameter in svi.parameters():
        assert parameter.isfinite().all()
    assert not (tmp_path / CHECKPOINT).exists()


def test_of_several_bad_steps_the_first_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(checked_steps, "READ_AT_ONCE", ())
    examples = tiny_examples()
    speech = replace(examples["speech"], values=np.full_like(examples["speech"].values, np.nan))
    with pytest.raises(FloatingPointError, match="step 1 .epoch 1, batch 1 of 5"):
        train(tmp_path, PairedLoader({**examples, "speech": speech}, 5))


def test_no_checkpoint_is_past_what_was_not_looked_at(tmp_path, monkeypatch):
    """Else a run that goes on from it would be past the bad batch, and never tell."""
    monkeypatch.setattr(checked_steps, "READ_AT_ONCE", ())
    loader = spoilt(np.nan)
    number, _ = place(loader)
    assert number > 0
    with pytest.raises(FloatingPointError, match=f"batch {number + 1} of"):
        train(tmp_path, loader, checkpoint_seconds=-1)
    progress = read_progress(tmp_path / CHECKPOINT)
    assert (progress.epoch, progress.batch) == (0, number)


def test_terms_and_parameters_are_called_after_modalities():
    names = ["speech", "image", "speech_noisy"]
    for name, expected in {
        "kl/z_sem": [],
        "kl/z_style_image": ["image"],
        "log_prob/speech_log_frames": ["speech"],
        "contrastive/speech/image": ["speech", "image"],
        "guide.unimodal.image.encoders.image.0.weight": ["image"],
        "log_prob/speech_noisy": ["speech", "speech_noisy"],
    }.items():
        assert modalities_of(name, names) == expected


def test_what_an_example_lacks_is_not_named(tmp_path):
    examples = tiny_examples()
    speech = replace(examples["speech"], values=np.full_like(examples["speech"].values, np.nan))
    there = missing_at_random(23, ["speech", "image"], 0.5, seed=0)
    loader = PairedLoader({**examples, "speech": speech}, 23, presence=there)
    held = loader.held(0, 0)
    for name, index in held.items():
        assert np.array_equal(index >= 0, next(loader.epoch(0))[name].present.numpy())
    svi = tiny_svi(sees_presence=True)
    with pytest.raises(FloatingPointError) as error:
        train(tmp_path, loader, svi=svi)
    named = str(error.value).partition("examples speech: ")[2]
    first = next(n for n in held["speech"] if n >= 0)
    assert named.startswith(f"speech{first},")
