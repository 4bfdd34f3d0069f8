"""Predictive checks against distributions that are known."""

import numpy as np
import pytest
import torch

from pvae_pyro.evaluate.predictive_checks import predictive_check, statistics
from pvae_pyro.inference_data import inference_data
from tests.support.linear_gaussian import SIZES, make_batch, make_pair, set_exact_posterior


@pytest.fixture(scope="module")
def exact():
    """Data of the model itself, under its exact posterior."""
    torch.manual_seed(0)
    model, guide = make_pair()
    set_exact_posterior(model, guide)
    with torch.no_grad():
        drawn = model(num_examples=300)
    batch = {n: one.__class__(drawn[n]) for n, one in make_batch(1).items()}
    return inference_data(model, guide, batch, num_samples=60, chunk=3000)


def test_a_model_predicts_its_own_data(exact):
    for name, of_statistic in predictive_check(exact, SIZES).items():
        for what, of_group in of_statistic.items():
            for group, found in of_group.items():
                assert 0.01 < found["p"] < 0.99, (name, what, group)
                assert 0.8 < found["inside"] <= 1.0, (name, what, group)
                assert found["predicted"] == pytest.approx(found["observed"], abs=0.15)


def test_a_wrong_model_is_found_out(exact):
    wrong = {
        group: {name: exact[group][name] for name in SIZES}
        for group in ("posterior_predictive", "prior_predictive")
    }
    wrong["observed_data"] = {name: 3 * exact["observed_data"][name] for name in SIZES}
    for of_statistic in predictive_check(wrong, SIZES).values():
        for found in of_statistic["sd"].values():
            assert found["p"] == 0
            assert found["inside"] < 0.3


def test_statistics_leave_padding_out():
    import xarray  # a dependency of ArviZ

    value = np.array([[[1.0, 3.0], [5.0, 7.0]], [[2.0, 4.0], [np.nan, np.nan]]])
    found = statistics(xarray.DataArray(value, dims=("example", "s_frame", "s_bin")))
    assert found["mean"].values.tolist() == [4.0, 3.0]
    assert found["sd"].values.tolist() == [pytest.approx(5**0.5), 1.0]
    assert found["energy"].values.tolist() == [84.0, 20.0]
    assert found["duration"].values.tolist() == [2, 1]
