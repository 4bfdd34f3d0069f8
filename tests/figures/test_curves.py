import json

import pytest

from pvae_pyro.figures.curves import curves_figure, read_metrics
from pvae_pyro.training.loop import fit
from pvae_pyro.training.records import METRICS
from tests.support.tiny import tiny_loader, tiny_svi

RECORDS = [
    {
        "epoch": 1, "step": 5, "seconds": 1.0, "objective": -20.0, "elbo": -12.0,
        "log_prob/a": -10.0, "log_prob/b": -400.0, "kl/z": 1.0,
    },
    {
        "epoch": 2, "step": 10, "seconds": 2.0, "objective": -15.0, "elbo": -8.0,
        "log_prob/a": -4.0, "log_prob/b": -380.0, "kl/z": 2.0,
    },
]  # fmt: skip


def lines(axes):
    return {line.get_label(): list(line.get_ydata()) for line in axes.lines}


def test_each_term_in_its_panel():
    objective, likelihood, kl = curves_figure(RECORDS).axes
    assert lines(objective) == {"objective": [-20.0, -15.0], "elbo": [-12.0, -8.0]}
    assert lines(likelihood) == {"a (−4.0)": [0.0, 6.0], "b (−380.0)": [0.0, 20.0]}
    assert lines(kl) == {"z": [1.0, 2.0]}
    for axes in (objective, likelihood, kl):
        assert axes.get_xlabel() == "gradient step"
        assert axes.get_ylabel() == "nats per example"
        assert all(list(line.get_xdata()) == [5, 10] for line in axes.lines)
    assert likelihood.get_yscale() == "symlog"


def test_a_runs_own_metrics(tmp_path):
    svi = tiny_svi()
    svi.loss.gamma = svi.loss.delta = svi.loss.epsilon = 1.0  # so that every term has a weight
    fit(svi, tiny_loader(), num_epochs=1, folder=tmp_path, show_progress=False)
    records = read_metrics(tmp_path / METRICS)
    panels = {axes.get_title(): lines(axes) for axes in curves_figure(records).axes}
    assert panels["KL(q ‖ p) of each latent"].keys() == {
        "z_sem", "z_style_speech", "z_style_image",
    }  # fmt: skip
    assert panels["coherence"]["sum"] == [record["coherence"] for record in records]
    assert panels["coherence"]["image, z_sem"] == [r["coherence/image/z_sem"] for r in records]
    assert panels["contrastive"].keys() == {"sum", "speech, image", "image, speech"}
    # Every term of the record is drawn.
    assert sum(map(len, panels.values())) == len(records[0].keys() - {"epoch", "step", "seconds"})


def test_one_epoch_is_a_point():
    figure = curves_figure(RECORDS[:1])
    assert all(line.get_marker() == "." for axes in figure.axes for line in axes.lines)


def test_damaged_metrics_are_refused(tmp_path):
    path = tmp_path / METRICS
    path.write_text("")
    with pytest.raises(ValueError, match="no epoch"):
        read_metrics(path)
    path.write_text('{"step": 1}\n{"step": true}\n')
    with pytest.raises(ValueError, match=f"{METRICS}.*line 2"):
        read_metrics(path)
    path.write_text(f'{json.dumps(RECORDS[0])}\n{{"step"')  # an epoch that is being written
    assert read_metrics(path) == RECORDS[:1]
