"""Augmentation in closed form: each property alone, at the end of its range; and in the loader."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pvae_pyro.batch import Observation
from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.augment import (
    ImageAugmentation,
    SpeechAugmentation,
    augmentations,
    resampled_frames,
    warped_frequencies,
)
from pvae_pyro.data.examples import Normalisation
from pvae_pyro.data.missing import missing_at_random
from tests.support.tiny import MAX_FRAMES, NUM_MELS, tiny_examples, tiny_loader
from tests.support.training import interrupted, metrics, run, snapshot

LOG_MEL = LogMel(16000)
LOC, SCALE = np.linspace(-6, -3, 80), np.linspace(1, 3, 80)
STILL = SpeechAugmentation(
    LOG_MEL, Normalisation(LOC, SCALE), 200, vocal_tract=0, tempo=0, level=0, noise=0
)
STILL_IMAGE = ImageAugmentation(shift=0, rotation=0, size=0, shear=0)


class Highest:
    """A generator of the largest numbers; all recordings get noise if any can."""

    def uniform(self, low, high, size):
        return np.full(size, high)

    def random(self, size):
        return np.zeros(size)


class Lowest(Highest):
    def uniform(self, low, high, size):
        return np.full(size, low)


def speech(size=5, longest=30):
    """Recordings in double precision; the padding is zero."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.linspace(1, longest, size).long()
    value = torch.randn(size, longest, 80, generator=generator, dtype=torch.float64)
    value[torch.arange(longest) >= lengths[:, None]] = 0
    return Observation(value, lengths)


def images(size=4, ground=0.0):
    generator = torch.Generator().manual_seed(0)
    value = torch.full((size, 1, 28, 28), ground, dtype=torch.float64)
    value[:, :, 6:22, 8:20] = torch.rand(size, 1, 16, 12, generator=generator, dtype=torch.float64)
    return Observation(value)


def log_energies(x):
    """``[ΣT, F]``, the frames that exist."""
    exists = torch.arange(x.value.shape[1]) < x.lengths[:, None]
    return (x.value * torch.from_numpy(SCALE) + torch.from_numpy(LOC))[exists]


def tiny_augmentations(max_frames=MAX_FRAMES):
    return augmentations(
        tiny_examples(), {"speech": LogMel(8000, num_mels=NUM_MELS)}, max_frames=max_frames
    )


def test_ranges_of_zero_change_nothing():
    x, changed = speech(), STILL(speech(), np.random.default_rng(0))
    torch.testing.assert_close(changed.value, x.value)
    assert torch.equal(changed.lengths, x.lengths)
    picture = images(ground=0.7)
    changed = STILL_IMAGE(picture, np.random.default_rng(0))
    torch.testing.assert_close(changed.value, picture.value)


@pytest.mark.parametrize(("rng", "decibels"), [(Highest(), 6), (Lowest(), -6)])
def test_a_change_of_level_adds_its_decibels_to_the_log_energies(rng, decibels):
    quietest = LogMel(16000, floor=1e-30)
    changed = replace(STILL, level=6.0, log_mel=quietest)(speech(), rng)
    nats = decibels * np.log(10) / 10
    torch.testing.assert_close(log_energies(changed), log_energies(speech()) + nats)


def test_no_energy_is_below_the_floor():
    loud = SpeechAugmentation(LogMel(16000, floor=0.01), STILL.normalisation, 200, 0, 0, 6, 0)
    least = log_energies(loud(speech(), Lowest())).min()
    assert least.item() == pytest.approx(np.log(0.01))


def test_noise_is_steady_and_as_far_below_the_recording_as_asked():
    x = speech()
    added = []
    for rng, exponent in ((Lowest(), 0), (Highest(), 2)):
        changed = replace(STILL, noise=1.0, noise_below=(15.0, 15.0))(x, rng)
        after, before = (log_energies(y).exp().split(x.lengths.tolist()) for y in (changed, x))
        for a, b in zip(after, before, strict=True):
            noise = a - b
            torch.testing.assert_close(noise, noise[:1].expand_as(noise))
            assert 10 * (noise.mean() / b.mean()).log10() == pytest.approx(-15)
        centres = torch.from_numpy(LOG_MEL.centre_frequencies)
        added.append(noise[0] * centres**exponent / (700 + centres))
    for density in added:  # white; and falling as 1 / f²
        torch.testing.assert_close(density, density[:1].expand_as(density))


def test_a_warp_keeps_the_ends_multiplies_low_frequencies_and_has_an_inverse():
    frequency = np.linspace(0, 8000, 101)
    for factor in (0.88, 1.0, 1.12):
        u = np.array([factor])
        warped = warped_frequencies(frequency, u, 8000)
        assert warped[[0, -1]] == pytest.approx([0, 8000])
        assert warped[:70] == pytest.approx(factor * frequency[:70])
        assert (np.diff(warped) > 0).all()
        assert warped_frequencies(warped, 1 / u, 8000) == pytest.approx(frequency, abs=1e-9)


@pytest.mark.parametrize(("rng", "factor"), [(Highest(), 1.12), (Lowest(), 0.88)])
def test_a_tone_moves_to_the_filter_of_its_new_frequency(rng, factor):
    """Also if the normalisation differs between filters."""
    centres = LOG_MEL.centre_frequencies
    log_energy = np.full((1, 4, 80), -10.0)
    log_energy[..., 40] = 0.0
    value = torch.from_numpy((log_energy - LOC) / SCALE)
    changed = replace(STILL, vocal_tract=0.12)(Observation(value, torch.tensor([4])), rng)
    nearest = int(np.abs(centres - factor * centres[40]).argmin())
    assert nearest != 40
    assert set(log_energies(changed).argmax(1).tolist()) == {nearest}


def test_frames_are_interpolated_and_nothing_else_is_used():
    ramp = torch.arange(10.0).expand(1, 10)[..., None].repeat(2, 1, 3)
    ramp[1, 4:] = torch.nan  # padding
    slow = resampled_frames(ramp, torch.tensor([10, 4]), torch.tensor([20, 8]))
    expected = ((torch.arange(20) + 0.5) / 2 - 0.5).clamp(0, 9)
    torch.testing.assert_close(slow[0, :, 0], expected)
    torch.testing.assert_close(slow[1, :8, 0], expected[:8].clamp(max=3))
    one = resampled_frames(ramp, torch.tensor([10, 4]), torch.tensor([1, 1]))
    assert one[..., 0].flatten().tolist() == [4.5, 1.5]


@pytest.mark.parametrize(("rng", "factor"), [(Highest(), 1.5), (Lowest(), 0.5)])
def test_lengths_follow_the_tempo_within_their_bounds_and_padding_is_zero(rng, factor):
    x = speech()
    changed = replace(STILL, tempo=0.5, max_frames=25, noise=1.0)(x, rng)
    expected = [min(max(round(length * factor), 1), 25) for length in x.lengths.tolist()]
    assert changed.lengths.tolist() == expected
    assert changed.value.shape == (5, max(expected), 80)
    padding = torch.arange(max(expected)) >= changed.lengths[:, None]
    assert padding.any()
    assert not changed.value[padding].any()
    assert changed.value.isfinite().all()


@pytest.mark.parametrize("ground", [0.0, 1.0])
def test_a_picture_moves_by_whole_pixels_on_its_own_ground(ground):
    picture = images(ground=ground)
    changed = replace(STILL_IMAGE, shift=2.0)(picture, Highest()).value
    expected = torch.full_like(changed, ground)
    expected[..., 2:, 2:] = picture.value[..., :-2, :-2]
    torch.testing.assert_close(changed, expected)
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_a_picture_of_any_proportions_is_turned_resized_and_sheared_about_its_centre():
    wide = torch.zeros(1, 1, 21, 41, dtype=torch.float64)
    wide[..., 10, 30] = 1  # 10 pixels to the right of the centre

    def place(x, **ranges):
        """Of the centre of mass, right of and below the centre."""
        (shape,) = replace(STILL_IMAGE, **ranges)(Observation(x), Highest()).value[0]
        y, x = torch.meshgrid(torch.arange(-10, 11), torch.arange(-20, 21), indexing="ij")
        return [float((axis * shape).sum() / shape.sum()) for axis in (x, y)]

    turned = [10 * np.cos(np.deg2rad(30)), 10 * np.sin(np.deg2rad(30))]
    assert place(wide, rotation=30) == pytest.approx(turned, abs=0.2)
    assert place(wide, size=0.5) == pytest.approx([15, 0], abs=0.2)
    assert place(wide, shear=0.5) == pytest.approx([10, 0], abs=0.2)
    low = torch.zeros_like(wide)
    low[..., 16, 20] = 1  # 6 pixels below the centre
    assert place(low, shear=0.5) == pytest.approx([3, 6], abs=0.2)


def test_variations_are_a_function_of_seed_epoch_batch_and_part():
    """Twelve copies of one pair make all batches alike, but for their augmentation."""

    def first_pair(seed=0, epoch=0, batch=0, part=(0, 1)):
        loader = tiny_loader(4, seed=seed, part=part, augment=tiny_augmentations())
        loader.examples = {n: of.take(np.zeros(12, int)) for n, of in tiny_examples().items()}
        loader.num_examples = 12
        found = list(loader.epoch(epoch))[batch]
        taken_up = next(loader.epoch(epoch, start=batch))
        for name in found:
            assert torch.equal(found[name].value, taken_up[name].value)
        return tuple(found[name].value[0].sum().item() for name in ("speech", "image"))

    changes = ({"seed": 1}, {"epoch": 1}, {"batch": 1}, {"part": (0, 2)}, {"part": (1, 2)})
    found = [first_pair(), *(first_pair(**change) for change in changes)]
    assert found[0] == first_pair()
    for values in zip(*found, strict=True):
        assert len(set(values)) == len(found)


def test_modalities_that_are_missing_stay_of_one_frame_and_others_stay_as_they_are():
    presence = missing_at_random(23, ("speech", "image"), 0.4, 0)
    plain = tiny_loader(23, presence=presence)
    changes = tiny_augmentations()
    loader = tiny_loader(23, presence=presence, augment={"speech": changes["speech"]})
    (before,), (after,) = plain.epoch(0), loader.epoch(0)
    assert torch.equal(before["image"].value, after["image"].value)
    assert not torch.equal(before["speech"].lengths, after["speech"].lengths)
    present = after["speech"].present
    assert torch.equal(before["speech"].present, present)
    assert (after["speech"].lengths[~present] == 1).all()
    assert after["speech"].lengths.max() <= MAX_FRAMES
    assert after["speech"].value.isfinite().all()


def test_only_speech_and_images_are_augmented():
    examples = tiny_examples()
    own = {"touch": examples["image"], **examples}
    found = augmentations(own, {"speech": LogMel(8000, num_mels=NUM_MELS)})
    assert found.keys() == {"speech", "image"}
    assert found["speech"].max_frames == examples["speech"].lengths.max()


def test_a_training_with_augmentation_resumes_bit_for_bit(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    loader = tiny_loader(8, augment=tiny_augmentations())
    expected, _ = run(whole, num_epochs=1, loader=loader)
    run(stopped, num_epochs=1, loader=interrupted(loader, 1))
    svi, progress = run(stopped, num_epochs=1, seed=5, loader=loader, resume=True)
    assert progress.step == 3
    for a, b in zip(snapshot(expected), snapshot(svi), strict=True):
        assert torch.equal(a, b)
    assert metrics(whole) == metrics(stopped)
