"""Fidelity: closed forms of Gaussians, and of a linear-Gaussian model whose judge sees it all."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.evaluate import fidelity as fidelity_module
from pvae_pyro.evaluate.fidelity import (
    Moments,
    frechet_distance,
    moments_of,
    reconstruction_error,
)
from pvae_pyro.evaluate.judges import train_judge
from tests.support import linear_gaussian
from tests.support.measuring import measured_by
from tests.support.tiny import tiny_examples, tiny_pair

fidelity = measured_by(fidelity_module)


def gaussian(mean, covariance):
    return Moments(np.array(mean, float), np.linalg.cholesky(np.array(covariance, float)).T)


def test_frechet_distance_of_gaussians_in_one_dimension():
    """(μ − μ')² + (σ − σ')²."""
    one, other = gaussian([1], [[4]]), gaussian([-2], [[9]])
    assert frechet_distance(one, other) == pytest.approx(9 + 1)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-12)


def random_gaussian(rng, size=6):
    root = rng.normal(size=(size, size))
    return rng.normal(size=size), root @ root.T


def test_frechet_distance_by_eigenvalues_and_under_rotations():
    rng = np.random.default_rng(0)
    one, other = random_gaussian(rng), random_gaussian(rng)
    found = frechet_distance(gaussian(*one), gaussian(*other))
    # The eigenvalues of ΣΣ', which is not symmetric, are the squares of those of its root.
    roots = np.sqrt(np.linalg.eigvals(one[1] @ other[1]).real).sum()
    expected = np.square(one[0] - other[0]).sum() + np.trace(one[1] + other[1]) - 2 * roots
    assert found == pytest.approx(expected)
    assert frechet_distance(gaussian(*other), gaussian(*one)) == pytest.approx(found)
    rotation, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    turned = [gaussian(rotation @ m, rotation @ c @ rotation.T) for m, c in (one, other)]
    assert frechet_distance(*turned) == pytest.approx(found)


@pytest.mark.parametrize("size", [4, 50])
def test_moments_of_features(size):
    """Fewer examples than dimensions, and more."""
    features = np.random.default_rng(0).normal(size=(size, 7)).astype(np.float32)
    found = moments_of(features)
    np.testing.assert_allclose(found.mean, features.mean(0), atol=1e-6)
    covariance = np.cov(features, rowvar=False)
    np.testing.assert_allclose(found.root.T @ found.root, covariance, atol=1e-6)


def test_singular_covariances_are_as_they_are():
    """Three examples on a line in five dimensions: Σ has rank one."""
    line = np.outer([-1.0, 0.0, 1.0], np.ones(5))
    across = np.outer([-1.0, 0.0, 1.0], [1, -1, 0, 0, 0])
    for other, distance in (
        (3 * line, 5 * (3 - 1) ** 2),
        (line + 2, 5 * 4),
        (across, 5 + 2),  # they share no direction
    ):
        found = frechet_distance(moments_of(line), moments_of(other))
        assert found == pytest.approx(distance)


def test_frechet_distance_of_samples():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(20_000, 3)), rng.normal(size=(10_000, 3))
    of_one = moments_of(one)
    assert frechet_distance(of_one, moments_of(other)) == pytest.approx(0, abs=0.002)
    assert frechet_distance(of_one, moments_of(2 * other + 1)) == pytest.approx(3 + 3, abs=0.15)


class SeesAll(nn.Module):
    """A judge whose features are the observation."""

    def features(self, observation):
        return observation.value


def test_fidelity_of_a_linear_gaussian_model():
    """Every distance and error has a closed form; variances s² of latents, σ² of the noise.

    The columns of W are orthogonal, so each distance is a sum over them, of (sd − sd')².
    """
    torch.manual_seed(0)
    model, guide = linear_gaussian.make_pair()
    linear_gaussian.set_exact_posterior(model, guide)
    z, noise = torch.randn(20_000, 6), linear_gaussian.NOISE**2
    test, judges = {}, {}
    for name, style in (("a", z[:, 2:4]), ("b", z[:, 4:])):
        weight = model.likelihoods[name].weight.detach()
        x = torch.cat([z[:, :2], style], 1) @ weight.T
        x += linear_gaussian.NOISE * torch.randn(x.shape)
        test[name] = Examples(x.numpy(), np.arange(20_000) % 3, Normalisation())
        judges[name] = SeesAll()
    found = fidelity(model, guide, judges, test, limit=10_000)
    for name, source in (("a", "b"), ("b", "a")):
        size = linear_gaussian.SIZES[name]
        # Of z_sem and z_style, by column: variance of the signal, and the share that is inferred.
        signal, of_source = (
            model.likelihoods[n].weight.detach().square().sum(0) for n in (name, source)
        )
        inferred, of_sem = signal / (signal + noise), of_source[:2] / (of_source[:2] + noise)
        real, rest = (signal + noise).sqrt(), (size - 4) * noise
        translated = torch.cat([signal[:2] * of_sem, signal[2:]]).sqrt()
        expected = {
            "real": 0.0,
            "reconstruction": ((real - (signal * inferred).sqrt()).square().sum() + rest).item(),
            f"{source}->{name}": ((real - translated).square().sum() + rest).item(),
            "prior": ((real - signal.sqrt()).square().sum() + rest).item(),
        }
        figures = found[name]
        assert {what: figures[what]["frechet"] for what in expected} == pytest.approx(
            expected, abs=0.03
        )
        error = ((noise * (1 - inferred)).sum() + rest) / size
        assert figures["reconstruction"]["error"] == pytest.approx(error.item(), rel=0.03)
        constant = ((signal + noise).sum() + rest) / size
        assert figures["constant"]["error"] == pytest.approx(constant.item(), rel=0.03)
        assert figures["num_examples"] == 10_000
    assert json.loads(json.dumps(found)) == found


def test_padding_and_duration_are_no_error():
    """A decoder whose frames are their mean everywhere errs by the variance of the frames."""
    model, guide = tiny_pair()
    with torch.no_grad():
        model.likelihoods["speech"].loc.weight.zero_()
        model.likelihoods["speech"].loc.bias.zero_()
    speech = tiny_examples()["speech"]
    frames = speech.normalisation.apply(speech.values)
    for chunk in (4, 500):
        error, constant = reconstruction_error(
            model, guide.unimodal["speech"], "speech", speech, chunk=chunk
        )
        assert error == pytest.approx(np.square(frames).mean(), rel=1e-5)
        assert constant == pytest.approx(frames.var(0).mean(), rel=1e-5)


def test_few_sources_and_few_examples():
    """Five recordings for images of which 15 are compared; three recordings have no distance."""
    model, guide = tiny_pair()
    test = tiny_examples(num_speech=5)
    judges = {name: train_judge(test[name], 3, steps=2) for name in test}
    before = torch.get_rng_state()
    found = fidelity(model.eval(), guide.eval(), judges, test)
    assert torch.equal(torch.get_rng_state(), before)
    assert (found["speech"]["num_examples"], found["image"]["num_examples"]) == (2, 15)
    assert found["image"]["speech->image"]["frechet"] > found["image"]["real"]["frechet"]
    assert fidelity(model, guide, judges, test) == found
    test["speech"] = test["speech"].take(np.arange(3))
    assert "4 test examples" in fidelity(model, guide, judges, test)["speech"]["reason"]
