"""NaN and overflow are found in their step, named, and kept out of the weights."""

from dataclasses import replace
from functools import partial

import numpy as np
import pyro
import pytest
import torch

from pvae_pyro.data.examples import Normalisation
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.data.missing import missing_at_random
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.models.likelihoods import ImageLikelihood
from pvae_pyro.svi import SVI
from pvae_pyro.training import checked_steps
from pvae_pyro.training.checked_steps import CheckedSteps
from pvae_pyro.training.checkpoint import CHECKPOINT, read_progress
from pvae_pyro.training.progress import Progress
from tests.support.tiny import tiny_batch, tiny_examples, tiny_pair, tiny_svi
from tests.support.training import interrupted, metrics, run, snapshot

BAD = 7  # the example that is not finite


def loader_with(value, which=BAD):
    """A loader of 23 examples in five batches; one coefficient of one example is `value`."""
    examples = tiny_examples()
    speech = examples["speech"]
    frames = speech.values.copy()
    frames[speech.offsets[which], 2] = value
    return PairedLoader({**examples, "speech": replace(speech, values=frames)}, 5)


def loader_of_nan(**options):
    examples = tiny_examples()
    values = np.full_like(examples["speech"].values, np.nan)
    speech = replace(examples["speech"], values=values)
    return PairedLoader({**examples, "speech": speech}, **{"batch_size": 5, **options})


def place(loader, epoch=0):
    """The number of the batch that holds the bad example, and the image beside it."""
    for number in range(len(loader)):
        held = loader.held(epoch, number)
        if BAD in held["speech"]:
            return number, int(held["image"][list(held["speech"]).index(BAD)])
    raise AssertionError


def train(folder, loader, num_epochs=2, **options):
    return run(folder, num_epochs, loader=loader, **options)


@pytest.mark.parametrize(
    ("value", "kind"), [(np.nan, "NaN"), (1e30, "overflow"), (np.inf, "overflow")]
)
def test_the_error_names_step_kind_modality_and_examples(tmp_path, value, kind):
    loader = loader_with(value)
    number, image = place(loader)
    with pytest.raises(FloatingPointError) as error:
        train(tmp_path, loader, checkpoint_seconds=0.0)
    message = str(error.value)
    assert message.startswith(f"step {number + 1} (epoch 1, batch {number + 1} of 5)")
    assert f"{kind} in log_prob/speech" in message
    assert "modality: speech" in message
    assert f"examples speech: speech{BAD}; image: {image}." in message
    if number:
        assert read_progress(tmp_path / CHECKPOINT).step == number


def test_pyros_validation_changes_nothing_in_the_first_step():
    loader, found = loader_with(0.0), []
    for validated in (False, True):
        svi = tiny_svi()
        steps = CheckedSteps(svi, loader, skip=False)
        steps._first = validated
        steps.take(next(loader.epoch(0)), Progress())
        found.append([*snapshot(svi), torch.rand(1)])
    assert all(map(torch.equal, *found))


def state(svi):
    of_optimiser = [value for values in svi.optim.state.values() for value in values.values()]
    return [*snapshot(svi), *(value.clone() for value in of_optimiser)]


@pytest.mark.parametrize("fused", [True, False])
def test_weights_and_optimiser_stay_as_they_were(fused):
    torch.manual_seed(0)
    svi = SVI(*tiny_pair(), partial(torch.optim.Adam, lr=1e-3, fused=fused), PartitionedELBO())
    svi.update(tiny_batch())
    before, bad = state(svi), tiny_batch()
    bad["speech"].value[2, 0] = torch.nan
    with (
        pyro.validation_enabled(False),
        pytest.raises(FloatingPointError, match="not finite: log_prob/speech"),
    ):
        svi.step(bad)
    assert all(map(torch.equal, before, state(svi)))
    svi.update(tiny_batch())
    assert not all(map(torch.equal, before, snapshot(svi)))


@pytest.mark.parametrize("fused", [True, False])
def test_the_check_changes_no_bit_of_a_step(fused):
    """A step equals backward of the mean loss followed by the optimiser."""
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


def test_a_gradient_alone_is_named_with_all_examples(tmp_path):
    svi = tiny_svi()
    name, parameter = next((n, p) for n, p in svi.guide.named_parameters() if "unimodal.image" in n)
    parameter.register_hook(lambda gradient: gradient * torch.inf)
    before = snapshot(svi)
    with pytest.raises(FloatingPointError, match="step 1") as error:
        train(tmp_path, loader_with(0.0), svi=svi)
    assert f"in guide.{name} (modality: image)" in str(error.value)
    examples = str(error.value).partition("examples ")[2].partition(". The step")[0]
    assert examples.count(",") == 2 * 4  # all five of each modality
    assert all(map(torch.equal, before, snapshot(svi)))


@pytest.mark.parametrize("values", [[0, 0, 0, np.nan, 0], [2e38, 2e38, 2e38, 2e38, 2e38]])
def test_a_term_that_is_only_reported_is_checked_too(tmp_path, monkeypatch, values):
    """The objective does not depend on it. In the second case only the sum is not finite."""
    svi, values = tiny_svi(), torch.tensor(values)
    before, terms = snapshot(svi), svi.loss.terms
    monkeypatch.setattr(svi.loss, "terms", lambda *args: terms(*args) | {"contrastive": values})
    loader = loader_with(0.0)
    with pytest.raises(FloatingPointError, match="step 1 .* in contrastive .modality") as error:
        train(tmp_path, loader, svi=svi)
    if values.isnan().any():
        assert f"speech: speech{loader.held(0, 0)['speech'][3]}; image" in str(error.value)
    assert all(map(torch.equal, before, snapshot(svi)))


def test_skipped_batches_are_counted_logged_and_left_out(tmp_path, caplog):
    loader = loader_with(np.nan)
    svi, progress = train(tmp_path, loader, num_epochs=3, skip_bad_batches=True)
    assert (progress.step, progress.skipped, progress.epoch) == (12, 3, 3)
    for epoch in range(3):
        assert f"epoch {epoch + 1}, batch {place(loader, epoch)[0] + 1} of 5" in caplog.text
    assert caplog.text.count("is skipped") == 3
    for parameter in svi.parameters():
        assert parameter.isfinite().all()
    for record in metrics(tmp_path):
        assert all(np.isfinite(value) for value in record.values())


@pytest.mark.parametrize("after", [3, 6])
def test_a_run_with_skipped_batches_resumes_bit_for_bit(tmp_path, after):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    loader = loader_with(np.nan)
    expected, _ = train(whole, loader, skip_bad_batches=True)
    train(stopped, interrupted(loader, after), skip_bad_batches=True)
    svi, progress = train(stopped, loader, svi=tiny_svi(9), resume=True, skip_bad_batches=True)
    assert (progress.step, progress.skipped) == (8, 2)
    assert all(map(torch.equal, snapshot(expected), snapshot(svi)))
    assert metrics(stopped) == metrics(whole)


def test_an_epoch_without_a_good_batch_is_an_error(tmp_path):
    with pytest.raises(FloatingPointError, match="no batch of epoch 1 was finite"):
        train(tmp_path, loader_of_nan(), skip_bad_batches=True)


def test_on_a_device_the_optimiser_itself_leaves_the_step_out(tmp_path, monkeypatch):
    """As on CUDA, here with torch's fused Adam: the error comes at the next check."""
    monkeypatch.setattr(checked_steps, "CHECK_AT_ONCE", ())
    loader = loader_with(np.nan)
    number, _ = place(loader)
    torch.manual_seed(0)
    svi = SVI(*tiny_pair(), partial(torch.optim.Adam, lr=1e-3, fused=True), PartitionedELBO())
    with pytest.raises(FloatingPointError, match=f"step {number + 1} .epoch 1, batch {number + 1}"):
        train(tmp_path, loader, svi=svi)
    steps = {float(state["step"]) for state in svi.optim.state.values()}
    assert steps == {4.0}  # of the epoch's five, after which the check comes
    for parameter in svi.parameters():
        assert parameter.isfinite().all()
    assert not (tmp_path / CHECKPOINT).exists()


def test_no_checkpoint_comes_after_an_unchecked_bad_step(tmp_path, monkeypatch):
    """A run resumed from it would be past the bad batch, and nobody would know."""
    monkeypatch.setattr(checked_steps, "CHECK_AT_ONCE", ())
    loader = loader_with(np.nan)
    number, _ = place(loader)
    assert number > 0
    with pytest.raises(FloatingPointError, match=f"batch {number + 1} of"):
        train(tmp_path, loader, checkpoint_seconds=-1)
    progress = read_progress(tmp_path / CHECKPOINT)
    assert (progress.epoch, progress.batch) == (0, number)


def test_missing_examples_are_not_named(tmp_path):
    there = missing_at_random(23, ["speech", "image"], 0.5, seed=0)
    loader = loader_of_nan(batch_size=23, presence=there)
    held = loader.held(0, 0)
    with pytest.raises(FloatingPointError) as error:
        train(tmp_path, loader, svi=tiny_svi())
    first = next(n for n in held["speech"] if n >= 0)
    assert str(error.value).partition("examples speech: ")[2].startswith(f"speech{first},")


def test_pyros_validation_finds_other_mistakes_in_the_first_step(tmp_path):
    loader = loader_with(0.0)
    svi = tiny_svi()
    svi.model.likelihoods["image"] = ImageLikelihood(5, family="bernoulli")
    shifted = Normalisation(np.float32(900), np.float32(255))  # pixels below 0
    loader.examples["image"] = replace(loader.examples["image"], normalisation=shifted)
    with pytest.raises(ValueError, match="support"):
        train(tmp_path, loader, svi=svi)
