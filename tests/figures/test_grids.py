"""Grids show what `infer` and `decode` give, originals and names where they belong."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pvae_pyro.batch import Observation
from pvae_pyro.data.examples import Normalisation
from pvae_pyro.figures.grids import choose_examples, joint_latent_grid, translation_grid
from pvae_pyro.figures.observations import Drawing, SequenceAxes, panels
from pvae_pyro.figures.style import new_figure
from pvae_pyro.generation import decode, infer
from pvae_pyro.guides import JMVAEGuide
from pvae_pyro.models import JMVAE
from tests.support.tiny import NUM_MELS, tiny_examples, tiny_modalities, tiny_pair

CLASSES = ("no", "yes", "maybe")
AXES = {"speech": SequenceAxes(0.01, np.array([100.0, 600.0, 900.0, 1100.0, 2500.0, 3000.0]))}
SHOWN = {"classes": CLASSES, "axes": AXES}
CONTENTS, STYLES = np.array([4, 0, 7]), np.array([2, 9])


@pytest.fixture
def examples():
    found = tiny_examples()
    speech = found["speech"]
    groups = [f"voice{n % 4}" for n in range(len(speech))]
    return found | {"speech": replace(speech, groups=groups)}


def shown(axes):
    (found,) = axes.images
    return np.asarray(found.get_array())


def original(examples, n):
    """In its own units, without any of the library's ways there."""
    if examples.offsets is None:
        return examples.values[n, 0]
    return examples.values[examples.offsets[n] : examples.offsets[n + 1]].T


def generated(model, examples, name, latents):
    observation = decode(model, latents, [name])[name]
    value = observation.value[0].numpy()
    value = value * examples[name].normalisation.scale + examples[name].normalisation.loc
    return value[0] if observation.lengths is None else value[: observation.lengths[0]].T


def inferred(guide, examples, name, n):
    return infer(guide, {name: examples[name].observation(np.array([n]))})


# Panels


def test_panels_are_in_their_own_units_without_padding():
    value = torch.arange(12.0).reshape(2, 3, 2)
    normalisation = Normalisation(np.array([10.0, 20.0]), np.array([1.0, 2.0]))
    first, second = panels(Observation(value, torch.tensor([1, 3])), normalisation)
    np.testing.assert_array_equal(first, [[10], [22]])
    np.testing.assert_array_equal(second, [[16, 18, 20], [34, 38, 42]])
    (picture,) = panels(
        Observation(torch.tensor([[[[0.0, 1.0]]]])), Normalisation(np.array(1.0), np.array(255.0))
    )
    np.testing.assert_array_equal(picture, [[1, 256]])


def test_axes_of_a_sequence():
    short, longer = np.zeros((NUM_MELS, 20)), np.ones((NUM_MELS, 50))
    drawing = Drawing.of([short, longer], [short, longer], AXES["speech"])
    axes = new_figure(1, 1).add_subplot()
    drawing.draw(axes, short)
    assert axes.get_xlim() == (0, 0.5)  # as wide as the longest
    assert axes.images[0].get_extent() == [0, 0.2, 0, NUM_MELS]
    assert axes.images[0].origin == "lower"
    assert not axes.get_xticks().size
    assert not axes.get_yticks().size
    drawing.show_units(axes)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time (s)", "frequency (Hz)")
    # Bin f's centre is at f + 1/2: 500 Hz is four fifths of the way from bin 0 to bin 1. 2000 Hz
    # would be less than a quarter of the panel above 1000 Hz; 4000 Hz is above the last bin.
    np.testing.assert_allclose(axes.get_yticks(), [0.5 + 4 / 5, 2.5 + 1 / 2])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["500", "1000"]


# Choice


def test_choice_is_of_the_labels_and_spreads_over_the_groups(examples):
    speech = examples["speech"]
    chosen = choose_examples(speech, [0, 0, 1, 2], seed=0)
    assert speech.labels[chosen].tolist() == [0, 0, 1, 2]
    assert len({speech.groups[n] for n in chosen}) == 4
    np.testing.assert_array_equal(chosen, choose_examples(speech, [0, 0, 1, 2], seed=0))
    seeds = [choose_examples(speech, [0, 0, 1, 2], seed=seed).tolist() for seed in range(5)]
    assert any(other != chosen.tolist() for other in seeds)


# Content by style


@pytest.mark.parametrize("source", ["speech", "image"])
@pytest.mark.parametrize("target", ["speech", "image"])
def test_cells_have_the_content_of_the_column_and_the_style_of_the_row(examples, source, target):
    model, guide = tiny_pair()
    figure = translation_grid(
        model, guide.unimodal, examples, source, target, CONTENTS, STYLES, **SHOWN
    )
    bars = int("speech" in (source, target))
    assert len(figure.axes) == 3 + 2 * (1 + 3) + bars
    for axes, n in zip(figure.axes, CONTENTS, strict=False):
        np.testing.assert_allclose(shown(axes), original(examples[source], n), rtol=1e-5, atol=1e-5)
    for row, style in enumerate(STYLES):
        first, *cells = figure.axes[3 + 4 * row : 7 + 4 * row]
        np.testing.assert_allclose(
            shown(first), original(examples[target], style), rtol=1e-5, atol=1e-5
        )
        of_style = f"z_style_{target}"
        z_style = inferred(guide, examples, target, style)[of_style]
        for axes, content in zip(cells, CONTENTS, strict=True):
            z_sem = inferred(guide, examples, source, content)["z_sem"]
            expected = generated(model, examples, target, {"z_sem": z_sem, of_style: z_style})
            np.testing.assert_allclose(shown(axes), expected, rtol=1e-4, atol=1e-4)


def test_all_panels_share_one_scale_and_one_axis_is_labelled(examples):
    model, guide = tiny_pair()
    figure = translation_grid(
        model, guide.unimodal, examples, "speech", "speech", CONTENTS, STYLES, **SHOWN
    )
    *grid, bar = figure.axes
    assert len({axes.images[0].get_clim() for axes in grid}) == 1
    assert len({axes.get_xlim() for axes in grid}) == 1
    assert [axes.get_xlabel() for axes in grid] == [""] * (len(grid) - 1) + ["time (s)"]
    assert [axes.get_ylabel() for axes in grid].count("frequency (Hz)") == 1
    assert bar.get_xlabel() == "log energy, speech"
    widest = max(shown(axes).shape[1] for axes in grid)
    assert grid[0].get_xlim() == pytest.approx((0, 0.01 * widest))


def test_classes_and_groups_are_named(examples):
    model, guide = tiny_pair()
    figure = translation_grid(
        model, guide.unimodal, examples, "image", "speech", [0, 3, 1], STYLES, **SHOWN
    )
    assert [axes.get_title() for axes in figure.axes[:3]] == ["no", "", "yes"]
    assert [axes.get_ylabel() for axes in figure.axes[3::4][:2]] == [
        "voice2:\nmaybe",
        "voice1:\nno",
    ]
    assert "style latent of the speech" in figure.get_suptitle().replace("\n", " ")


# One latent, every modality


@pytest.mark.parametrize("source", ["speech", "image"])
def test_one_latent_decoded_into_every_modality(examples, source):
    modalities = tiny_modalities()
    model, guide = JMVAE(modalities, 5), JMVAEGuide(modalities, 5)
    figure = joint_latent_grid(model, guide.unimodal, examples, source, CONTENTS, **SHOWN)
    assert len(figure.axes) == 3 * 3 + 1
    for column, n in enumerate(CONTENTS):
        above, *cells = figure.axes[column:9:3]
        np.testing.assert_allclose(
            shown(above), original(examples[source], n), rtol=1e-5, atol=1e-5
        )
        latents = inferred(guide, examples, source, n)
        for axes, name in zip(cells, examples, strict=True):
            expected = generated(model, examples, name, latents)
            np.testing.assert_allclose(shown(axes), expected, rtol=1e-4, atol=1e-4)
    rows = [axes.get_ylabel() for axes in figure.axes[:9:3]]
    assert rows == [f"{source},\noriginal", "speech,\ndecoded", "image,\ndecoded"]
    assert "prior" not in figure.get_suptitle()


def test_a_partitioned_model_draws_the_styles(examples):
    model, guide = tiny_pair()
    state = torch.get_rng_state()
    draws = [
        joint_latent_grid(model, guide.unimodal, examples, "image", CONTENTS, **SHOWN, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), state)
    first, again, other = (shown(figure.axes[6]) for figure in draws)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert "drawn from the prior" in draws[0].get_suptitle()
    # The shared latent is the inferred one: with the same style draws, the same picture.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        locs = torch.cat([inferred(guide, examples, "image", n)["z_sem"] for n in CONTENTS])
        expected = decode(model, {"z_sem": locs}, ["speech", "image"])["image"].value[0, 0]
    np.testing.assert_allclose(first, expected.numpy() * 255, rtol=1e-4, atol=1e-3)
