"""Families of pixels, and scales that are learnt."""

import math
from typing import get_args

import pyro
import pytest
import torch
from pyro import poutine

from pvae_pyro.batch import Observation
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.models.likelihoods import FAMILIES, ImageLikelihood, SpeechLikelihood
from pvae_pyro.nn.choices import PixelFamily
from pvae_pyro.nn.scale import MOST, ObservationScale
from tests.support.tiny import MAX_FRAMES, NUM_MELS, tiny_batch, tiny_pair

SCALE = 0.3


def scored(likelihood, z, observation):
    with pyro.plate("examples", len(z), dim=-1):
        trace = poutine.trace(likelihood).get_trace("x", z, observation)
    trace.compute_log_prob()
    return trace.nodes["x"]


def test_every_choice_of_the_command_line_has_a_distribution():
    assert set(FAMILIES) == set(get_args(PixelFamily))


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_log_prob_is_the_formula(family, learn):
    """Of grey pixels, black and white ones among them, with Pyro's checks on."""
    likelihood = ImageLikelihood(4, SCALE, family, learn)
    z, x = torch.randn(3, 4), torch.rand(3, 1, 28, 28)
    x[0] = x[0].round()
    m = likelihood.decoder(z)
    p = 1 / (1 + torch.exp(-m))
    expected = {
        "normal": -0.5 * ((x - m) / SCALE) ** 2 - math.log(SCALE * math.sqrt(2 * math.pi)),
        "laplace": -(x - m).abs() / SCALE - math.log(2 * SCALE),
        "bernoulli": x * p.log() + (1 - x) * (1 - p).log(),
    }[family]
    found = scored(likelihood, z, Observation(x))["log_prob"]
    torch.testing.assert_close(found, expected.sum((1, 2, 3)))


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_are_of_the_family_and_around_the_mean(family):
    likelihood = ImageLikelihood(4, SCALE, family)
    z = 3 * torch.randn(1, 4).expand(3000, -1)
    with pyro.plate("examples", len(z), dim=-1):
        nodes = poutine.trace(likelihood).get_trace("x", z, None).nodes
    x, mean = nodes["x"]["value"], nodes["x_loc"]["value"]
    assert x.shape == mean.shape == (3000, 1, 28, 28)
    assert torch.equal(mean, nodes["x"]["fn"].mean.expand(3000, -1, -1, -1))
    m = likelihood.decoder(z[:1])[0]
    if family == "bernoulli":
        assert set(x.unique().tolist()) == {0.0, 1.0}
        m, deviation = m.sigmoid(), (m.sigmoid() * (1 - m.sigmoid())).sqrt()
    else:
        deviation = torch.full_like(m, SCALE * (math.sqrt(2) if family == "laplace" else 1))
    torch.testing.assert_close(mean[0], m)
    assert ((x.mean(0) - m).abs() < 5.5 * deviation / math.sqrt(3000)).all()
    assert x.std(0).mean().item() == pytest.approx(deviation.mean().item(), rel=0.02)


@pytest.mark.parametrize(
    ("family", "encoder"), [("normal", "lstm"), ("bernoulli", "conv"), ("laplace", "transformer")]
)
def test_the_objective_reaches_every_parameter(family, encoder):
    model, guide = tiny_pair(
        image_likelihood=family, speech_encoder=encoder, learn_scale=True, speech_scale=0.7
    )
    elbo = PartitionedELBO(gamma=1.0, delta=1.0)
    terms = elbo.terms(model, guide, tiny_batch(12))
    assert terms["objective"].isfinite().all()
    assert terms["restyling/speech"].abs().sum() > 0
    terms["objective"].sum().backward()
    for module in (model, guide):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
    scales = {name for name, _ in model.named_parameters() if name.endswith("scale.unbounded")}
    assert len(scales) == (1 if family == "bernoulli" else 2)


def fit_scale(likelihood, log_prob):
    optim = torch.optim.LBFGS(
        likelihood.scale.parameters(), max_iter=30, line_search_fn="strong_wolfe"
    )

    def closure():
        optim.zero_grad()
        loss = -log_prob().sum() / 1000
        loss.backward()
        return loss

    optim.step(closure)
    return likelihood.scale().item()


@pytest.mark.parametrize("family", ["normal", "laplace"])
def test_learnt_scale_of_pictures_is_the_error(family):
    """The root mean square of what is left, or its mean magnitude: which differ here."""
    likelihood = ImageLikelihood(4, 1.0, family, learn_scale=True)
    z, x = torch.randn(4, 4), torch.rand(4, 1, 28, 28) ** 4
    error = (x - likelihood.decoder(z)).detach()
    rmse, mae = error.square().mean().sqrt().item(), error.abs().mean().item()
    assert rmse > 1.2 * mae
    found = fit_scale(likelihood, lambda: scored(likelihood, z, Observation(x))["log_prob"])
    assert found == pytest.approx(rmse if family == "normal" else mae, rel=1e-3)


def test_learnt_scale_of_speech_is_the_error_of_frames_in_use():
    likelihood = SpeechLikelihood(
        4, num_mels=NUM_MELS, num_cells=8, max_frames=MAX_FRAMES, scale=0.5, learn_scale=True
    )
    given = tiny_batch(padding=3, filler=100.0)["speech"]
    z = torch.randn(5, 4)
    site = scored(likelihood, z, given)
    used = torch.arange(given.value.shape[1]) < given.lengths[:, None]
    error = (given.value - site["fn"].mean)[used]
    found = fit_scale(likelihood, lambda: scored(likelihood, z, given)["log_prob"])
    assert found == pytest.approx(error.square().mean().sqrt().item(), rel=1e-3)


def test_learnt_scale_starts_where_it_is_set_and_cannot_collapse():
    for start in (0.02, 0.5, 1.0, 30.0):
        assert ObservationScale(start, learn=True)().item() == pytest.approx(start, rel=1e-5)
    likelihood = ImageLikelihood(4, 1.0, learn_scale=True)
    z = torch.randn(2, 4)
    x = likelihood.decoder(z).detach()  # nothing is left to explain: the density has no maximum
    found = fit_scale(likelihood, lambda: scored(likelihood, z, Observation(x))["log_prob"])
    assert 1 / MOST <= found < 0.02
    with torch.no_grad():
        likelihood.scale.unbounded.fill_(-1e6)
    assert likelihood.scale().item() == pytest.approx(1 / MOST)
    assert scored(likelihood, z, Observation(x))["log_prob"].isfinite().all()


@pytest.mark.parametrize(
    ("scale", "learn", "message"),
    [(0.0, False, "positive"), (-1.0, True, "positive"), (math.nan, False, "positive"),
     (0.005, True, "between 0.01 and 100"), (200.0, True, "between 0.01 and 100")],
)  # fmt: skip
def test_impossible_scales_are_refused(scale, learn, message):
    with pytest.raises(ValueError, match=message):
        ObservationScale(scale, learn)
