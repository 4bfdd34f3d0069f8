"""The components of a mixture prior as clusters."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pvae_pyro.evaluate.prior_clusters import components_in_use, measure
from pvae_pyro.models.priors import GaussianMixture


def test_components_in_use_by_hand():
    """Of 100 examples component 0 has 98, component 1 and component 3 one, component 2 none."""
    shares = np.zeros((100, 4))
    shares[:98, 0] = 1.0
    shares[98, 1] = 1.0
    shares[99] = [0.0, 0.0, 0.4, 0.6]
    found = components_in_use(shares)
    assert found["in_use"] == 3
    average = np.array([0.98, 0.01, 0.004, 0.006])
    assert found["effective"] == pytest.approx(np.exp(-(average * np.log(average)).sum()))
    assert components_in_use(shares, least=0.02)["in_use"] == 1
    assert components_in_use(np.full((5, 8), 1 / 8))["effective"] == pytest.approx(8)


def test_the_most_responsible_component_is_the_cluster():
    rng = np.random.default_rng(0)
    labels = np.arange(4).repeat(30)
    z = 6 * np.eye(4)[labels] + 0.1 * rng.normal(size=(120, 4))
    prior = GaussianMixture(4, 9)
    with torch.no_grad():
        prior.loc[:3] = 6 * torch.eye(4)[:3]
        prior.loc[3:] = -50.0
    run = SimpleNamespace(
        model=SimpleNamespace(prior=prior),
        latents=lambda: {"z_sem": {"a": z.astype(np.float32)}, "z_style": {"a": z}},
        test={"a": SimpleNamespace(labels=labels, labelled=True)},
        device="cpu",
    )
    with torch.no_grad():
        found = measure(run, None)
    assert found.keys() == {"z_sem"}
    scores = found["z_sem"]["a"]
    # No component is at the fourth class: one of the other three has it too.
    assert (scores["in_use"], scores["components"], scores["purity"]) == (3, 9, 0.75)
    assert scores["kmeans"]["purity"] == 0.75
    run.model = SimpleNamespace(prior=lambda: None)
    assert measure(run, None) == {"reason": "the prior is not a mixture but a function"}
