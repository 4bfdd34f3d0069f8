"""Inference data: what ArviZ is given, against the models themselves and closed forms."""

import sys
from types import SimpleNamespace

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine

from pvae_pyro.data.examples import Normalisation
from pvae_pyro.inference_data import import_arviz, inference_data, write_netcdf
from tests.support.linear_gaussian import NOISE, SIZES, log_evidence, make_batch, make_pair
from tests.support.linear_gaussian import set_exact_posterior as set_exact
from tests.support.tiny import MAX_FRAMES, NUM_MELS, tiny_batch, tiny_pair

GROUPS = (
    *("posterior", "posterior_predictive", "log_likelihood"),
    *("prior", "prior_predictive", "observed_data"),
)
LATENTS = {"z_sem": 3, "z_style_speech": 2, "z_style_image": 2}
OBSERVED = {"speech", "speech_log_frames", "image"}
DRAWS = ("chain", "draw", "example")
PICTURE = ("image_channel", "image_row", "image_column")
SPEECH = ("speech_frame", "speech_bin")


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    return tiny_pair()


@pytest.fixture(scope="module")
def data(pair):
    return inference_data(*pair, tiny_batch(7), num_samples=6, chunk=18)


def values(data, group, site):
    return np.asarray(data[group][site])


def test_groups_sites_and_dimensions(data):
    assert set(data.groups()) == set(GROUPS)
    for group in ("posterior", "prior"):
        assert set(data[group].data_vars) == LATENTS.keys()
        for site, dim in LATENTS.items():
            assert data[group][site].dims == (*DRAWS, f"{site}_dim")
            assert data[group][site].shape == (1, 6, 7, dim)
    for group, first in (("posterior_predictive", DRAWS), ("observed_data", DRAWS[2:])):
        assert set(data[group].data_vars) == OBSERVED
        assert data[group]["speech"].dims == (*first, *SPEECH)
        assert data[group]["image"].dims == (*first, *PICTURE)
        assert data[group]["image"].shape[-3:] == (1, 28, 28)
        assert data[group]["speech_log_frames"].dims == first
    for site in OBSERVED:
        assert data["log_likelihood"][site].dims == DRAWS
        assert data["prior_predictive"][site].dims == data["posterior_predictive"][site].dims
    assert data["posterior"].coords["example"].values.tolist() == list(range(7))


def test_nothing_but_padding_is_missing(data):
    """Each draw has the frames that its own duration says."""
    last = []
    for group in ("posterior_predictive", "prior_predictive", "observed_data"):
        speech = values(data, group, "speech")
        frames = np.exp(values(data, group, "speech_log_frames")).round().clip(1, MAX_FRAMES)
        there = np.arange(speech.shape[-2]) < frames[..., None]
        assert not there.all()
        np.testing.assert_array_equal(~np.isnan(speech), np.repeat(there[..., None], NUM_MELS, -1))
        assert np.isfinite(values(data, group, "image")).all()
        last.append(there[..., -1].any())
    assert any(last)  # nor is there a frame that nothing has


def test_log_likelihood_is_the_models_own(data, pair):
    """Draw by draw and example by example."""
    batch = tiny_batch(7)
    for draw in range(6):
        latents = {
            site: torch.from_numpy(values(data, "posterior", site)[0, draw]) for site in LATENTS
        }
        with torch.no_grad(), poutine.condition(data=latents):
            trace = poutine.trace(pair[0]).get_trace(batch)
        trace.compute_log_prob()
        for site in OBSERVED:
            np.testing.assert_allclose(
                values(data, "log_likelihood", site)[0, draw],
                trace.nodes[site]["log_prob"].numpy(),
                rtol=1e-4,
            )


@pytest.mark.parametrize("group", ["posterior", "prior"])
def test_predictions_follow_their_draw(group):
    """x - W z is the observation's noise, where z is of the same draw and example alone."""
    model, guide = make_pair()
    set_exact(model, guide)
    found = inference_data(model, guide, make_batch(100), num_samples=50, chunk=1000)
    for name in SIZES:
        sites = ("z_sem", f"z_style_{name}")
        z = np.concatenate([values(found, group, site) for site in sites], -1)
        mean = z @ model.likelihoods[name].weight.detach().numpy().T
        predicted = values(found, f"{group}_predictive", name)
        assert (predicted - mean).std() == pytest.approx(NOISE, rel=0.02)
        for axis in (1, 2):
            assert (predicted - np.roll(mean, 1, axis)).std() > 1.1 * NOISE


def test_an_exact_posterior_has_the_evidence_in_every_draw(float64):
    """log p(x | z) + log p(z) - log q(z | x) = log p(x); and q's moments are the closed ones."""
    model, guide = make_pair()
    set_exact(model, guide)
    batch = make_batch(4)
    found = inference_data(model, guide, batch, num_samples=5, chunk=10)
    total = sum(values(found, "log_likelihood", site)[0] for site in SIZES)
    for draw in range(5):
        z = {s: torch.from_numpy(values(found, "posterior", s)[0, draw]) for s in found.posterior}
        with torch.no_grad(), poutine.condition(data=z):
            q = poutine.trace(guide).get_trace(batch)
            p = poutine.trace(model).get_trace(num_examples=4)
        for trace, sign in ((p, 1), (q, -1)):
            trace.compute_log_prob()
            total[draw] += sign * sum(trace.nodes[site]["log_prob"] for site in z).numpy()
    exact = np.broadcast_to(log_evidence(model, batch).detach().numpy(), total.shape)
    np.testing.assert_allclose(total, exact, rtol=1e-6)


def test_what_the_guide_does_not_infer_is_from_the_prior(pair):
    """A translation: style of the image from N(0, I), and scored as such."""
    model, guide = pair
    found = inference_data(model, guide.unimodal["speech"], tiny_batch(50), num_samples=200)
    style = values(found, "posterior", "z_style_image")
    assert style.shape == (1, 200, 50, 2)
    assert abs(style.mean()) < 0.03
    assert style.std() == pytest.approx(1.0, abs=0.03)
    assert np.isfinite(values(found, "log_likelihood", "image")).all()


def test_the_seed_decides_and_the_random_state_stays(pair, data):
    state, kept = torch.get_rng_state(), set(pyro.get_param_store().keys())
    other = inference_data(*pair, tiny_batch(7), num_samples=6, chunk=18, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert set(pyro.get_param_store().keys()) == kept
    assert not data["posterior"].equals(other["posterior"])
    # However it is cut into chunks, examples keep their order.
    whole = inference_data(*pair, tiny_batch(7), num_samples=6)
    assert data["observed_data"].equals(whole["observed_data"])
    assert data["posterior"].sizes == whole["posterior"].sizes


def test_coordinates_and_normalisations(pair):
    hertz = np.linspace(100, 4000, NUM_MELS)
    found = inference_data(
        *pair,
        tiny_batch(3),
        num_samples=2,
        coords={"speech_bin": hertz, "speech_frame": np.arange(99) * 0.01, "example": list("abc")},
        normalisations={
            "speech": Normalisation(np.arange(NUM_MELS), np.full(NUM_MELS, 2.0)),
            "image": Normalisation(np.float32(0), np.float32(255)),
        },
    )
    for group in ("posterior_predictive", "observed_data"):
        np.testing.assert_array_equal(found[group].coords["speech_bin"], hertz)
        frames = found[group].coords["speech_frame"].values
        np.testing.assert_allclose(frames, 0.01 * np.arange(len(frames)))
        assert found[group].coords["example"].values.tolist() == list("abc")
    constants = found["constant_data"]
    assert constants["speech_normalisation_loc"].dims == ("speech_bin",)
    assert constants["image_normalisation_scale"].dims == ("image_column",)
    assert set(constants["image_normalisation_scale"].values) == {255.0}


def test_a_file_is_read_again_as_it_was(data, tmp_path):
    path = tmp_path / "data.nc"
    write_netcdf(data, path)
    again = import_arviz().from_netcdf(path)
    for group in GROUPS:
        assert data[group].equals(again[group]), group
    kept = path.read_bytes()

    def fails(temporary, engine):
        (tmp_path / temporary).write_text("half of it")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_netcdf(SimpleNamespace(to_netcdf=fails), path)
    assert path.read_bytes() == kept
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("version", ["0.20.0", "1.3.0"])
def test_either_version_of_arviz_gets_its_own_call(pair, monkeypatch, version):
    called = []

    def from_dict(*groups, dims, coords, **named):
        called.append((groups, named, dims, coords))
        return "made"

    fake = SimpleNamespace(__version__=version, from_dict=from_dict)
    monkeypatch.setitem(sys.modules, "arviz", fake)
    assert inference_data(*pair, tiny_batch(3), num_samples=2) == "made"
    ((groups, named, dims, coords),) = called
    assert set(named if version.startswith("0.") else groups[0]) == set(GROUPS)
    assert bool(named) == version.startswith("0.") != bool(groups)
    assert dims["image"] == ["example", *PICTURE]
    assert len(coords["image_row"]) == 28
