"""criticise.py on tiny runs; its checks and its k against distributions that are known."""

import json
import shutil
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from pvae_pyro.evaluate.likelihood import evaluate_likelihood
from pvae_pyro.experiments import criticise
from pvae_pyro.experiments.support.saved_run import open_run
from pvae_pyro.figures.criticism import (
    pareto_k,
    pareto_k_figure,
    predictive_check,
    predictive_figure,
    reliable_k,
    statistics,
)
from pvae_pyro.inference_data import import_arviz, inference_data
from tests.support.linear_gaussian import SIZES, make_batch, make_pair, set_exact_posterior

QUICK = [
    *("--limit", "5", "--num-samples", "3"),
    *("--likelihood-examples", "8", "--importance-samples", "30"),
]
FILES = {"inference_data.nc", "criticism.json"}
FIGURES = {"criticism-predictive.png", "criticism-pareto-k.png"}


@pytest.fixture(scope="module")
def runs(small_runs, environment, tmp_path_factory):
    """Copies of the runs on the small corpus, criticised together; and what was printed."""
    folder = tmp_path_factory.mktemp("criticised")
    return {name: shutil.copytree(run, folder / name) for name, run in small_runs.items()}


def read(folder):
    return json.loads((folder / "criticism.json").read_text())


def test_everything_is_written_and_runs_compared(runs, capsys):
    before = {path.name for path in runs["pvae"].iterdir()}
    assert criticise.main([str(runs["pvae"]), str(runs["jmvae"]), *QUICK]) == 0
    for name in ("pvae", "jmvae"):
        assert {path.name for path in (runs[name] / "figures").iterdir()} == FIGURES
        found = read(runs[name])
        assert found["options"]["importance_samples"] == 30
        assert found["importance"].keys() == {"joint", "speech", "image"}
        assert found["importance"]["joint"]["num_examples"] == 12  # all of the test partition
        assert found["predictive_check"]["speech"].keys() == {"mean", "sd", "energy", "duration"}
        assert found["predictive_check"]["image"].keys() == {"mean", "sd"}
        assert {"versions", "git_commit", "corpus", "config"} <= found.keys()
    assert {path.name for path in runs["pvae"].iterdir()} == before | FILES | {"figures"}
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:7]] == [
        target for target in ("joint", "speech", "image") for _ in range(2)
    ]
    for best, second in zip(lines[1:7:2], lines[2:7:2], strict=True):
        assert float(best.split()[3]) == 0 >= float(second.split()[3])
        difference = float(second.split()[1]) - float(best.split()[1])
        assert float(second.split()[3]) == pytest.approx(difference, abs=0.02)

    data = import_arviz().from_netcdf(runs["pvae"] / "inference_data.nc")
    assert dict(data["posterior"].sizes)["example"] == 5
    assert data["posterior"].sizes["draw"] == 3
    hertz = data["observed_data"].coords["speech_bin"].values
    assert len(hertz) == 80
    assert 20 < hertz[0] < hertz[-1] < 4000
    seconds = data["observed_data"].coords["speech_frame"].values
    assert np.diff(seconds) == pytest.approx(0.01)


def test_likelihoods_are_those_of_evaluate(runs):
    """Estimates of the same quantity, of the same examples."""
    options = criticise.make_parser().parse_args(["run", *QUICK, "--importance-samples", "2000"])
    run = open_run(runs["pvae"], None, "cpu")
    weighed = criticise.weigh(run, options)
    loader = criticise.PairedLoader(run.data.test, 32, names=run.names)
    known = evaluate_likelihood(run.model, run.guide, loader.epoch(0), num_samples=1000, seed=1)
    for target, one in {"joint": known["joint"], **known["marginal"]}.items():
        assert weighed[target]["log_likelihood"].mean() == pytest.approx(one["mean"], abs=3.0)
        assert weighed[target]["log_likelihood"].mean() >= weighed[target]["elbo"].mean()


def test_a_vae_is_compared_where_it_can_be(runs, capsys):
    both = [str(runs["vae-image"]), str(runs["pvae"])]
    assert criticise.main([*both, *QUICK]) == 0
    targets = {line.split()[0] for line in capsys.readouterr().out.splitlines()[1:3]}
    assert targets == {"image"}
    assert read(runs["vae-image"])["importance"].keys() == {"image"}
    assert criticise.main([str(runs["vae-image"]), str(runs["vae-speech"]), *QUICK]) == 1
    assert "no modality in common" in capsys.readouterr().err


def test_what_cannot_be_compared_is_refused(runs, tmp_path, capsys):
    other = shutil.copytree(runs["pvae"], tmp_path / "other")
    for name in FILES:
        (other / name).unlink(missing_ok=True)
    run = open_run(runs["pvae"], None, "cpu")
    changed = run.config.but(duration_scale=0.0)
    without = SimpleNamespace(folder=other, names=run.names, data=run.data, config=changed)
    with pytest.raises(criticise.RunError, match="one has durations in its likelihood"):
        criticise.check_comparable([run, without])
    without.config = run.config.but(image_likelihood="bernoulli")
    with pytest.raises(criticise.RunError, match="one has probabilities of pixels"):
        criticise.check_comparable([run, without])
    without.names = ("speech",)
    criticise.check_comparable([run, without])
    without.config, without.names = run.config, run.names
    without.data = SimpleNamespace(digest=lambda: "of others")
    with pytest.raises(criticise.RunError, match="other data than"):
        criticise.check_comparable([run, without])
    (other / "results.json").unlink()
    assert criticise.main([str(runs["pvae"]), str(other), *QUICK]) == 1
    assert "is not finished" in capsys.readouterr().err
    assert not (other / "criticism.json").exists()


@pytest.mark.parametrize("option", [["--limit", "0"], ["--seed", "-1"], ["--num-samples", "x"]])
def test_wrong_usage_is_refused(option, capsys):
    with pytest.raises(SystemExit) as stopped:
        criticise.main(["run", *option])
    assert stopped.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_paired_errors_do_not_hold_how_hard_examples_are():
    rng = np.random.default_rng(0)
    hard = 1000 * rng.normal(size=400)
    weighed = {
        run: {"x": {**dict.fromkeys(("effective_sample_size", "pareto_k"), np.zeros(400)),
                    "log_likelihood": hard + gain + rng.normal(size=400)}}
        for run, gain in (("worse", 0.0), ("better", 3.0))
    }  # fmt: skip
    best, second = (line.split() for line in criticise.compare(weighed).splitlines()[1:])
    assert (best[-1], second[-1]) == ("better", "worse")
    assert float(second[2]) == pytest.approx(1000 / 20, rel=0.1)
    assert float(second[3]) == pytest.approx(-3, abs=0.3)
    assert float(second[4]) == pytest.approx(2**0.5 / 20, rel=0.2)


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


def test_a_model_predicts_what_it_generated(exact):
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
    import xarray  # ArviZ's own

    value = np.array([[[1.0, 3.0], [5.0, 7.0]], [[2.0, 4.0], [np.nan, np.nan]]])
    found = statistics(xarray.DataArray(value, dims=("example", "s_frame", "s_bin")))
    assert found["mean"].values.tolist() == [4.0, 3.0]
    assert found["sd"].values.tolist() == [pytest.approx(5**0.5), 1.0]
    assert found["energy"].values.tolist() == [84.0, 20.0]
    assert found["duration"].values.tolist() == [2, 1]


@pytest.mark.parametrize("k", [0.2, 0.7, 1.5])
def test_k_is_the_tail_index(k):
    """Of w = u^-k, a Pareto distribution of tail index k."""
    log_weights = -k * torch.rand(4000, 30, generator=torch.Generator().manual_seed(0)).log()
    assert pareto_k(log_weights - 4000).mean() == pytest.approx(k, abs=0.06)


def test_k_of_hopeless_and_of_perfect_weights():
    log_weights = torch.zeros(100, 2)
    log_weights[:, 1] = -2000.0 * torch.arange(100)  # one of them has it all
    assert pareto_k(log_weights).tolist() == [0.0, np.inf]


def test_arviz_1_wants_the_sign_turned(monkeypatch):
    base = ModuleType("arviz_stats.base")
    base.array_stats = SimpleNamespace(psislw=lambda ary: (None, ary.max(-1)))
    monkeypatch.setitem(sys.modules, "arviz", SimpleNamespace(__version__="1.0.0"))
    monkeypatch.setitem(sys.modules, "arviz_stats", ModuleType("arviz_stats"))
    monkeypatch.setitem(sys.modules, "arviz_stats.base", base)
    assert pareto_k(torch.tensor([[1.0, -5.0], [2.0, 7.0]])).tolist() == [-1.0, 5.0]


def test_figures_of_what_there_is(exact):
    figure = predictive_figure(exact, list(SIZES))
    assert [axes.get_xlabel() for axes in figure.axes] == ["mean", "sd"] * len(SIZES)
    assert [axes.get_title() for axes in figure.axes[::2]] == list(SIZES)
    with pytest.raises(ValueError, match="no modality"):
        predictive_figure(exact, [])

    (axes,) = pareto_k_figure({"a": np.array([0.1, 0.9, np.inf]), "b": np.ones(4)}, 200).axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["a\n67 % above 0.7", "b\n100 % above 0.7"]
    heights = {line.get_ydata()[0] for line in axes.lines if line.get_linestyle() in "-:"}
    assert {0.7, reliable_k(200)} <= heights
    for nothing in ({}, {"a": np.array([])}):
        with pytest.raises(ValueError, match="no k"):
            pareto_k_figure(nothing, 200)


def test_the_largest_k_that_draws_are_enough_for():
    assert reliable_k(100) == pytest.approx(0.5)
    assert reliable_k(10**6) == 0.7
    assert reliable_k(1) == 0.0
