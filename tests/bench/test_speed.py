"""The benchmark compares equal objectives; its times are for an idle machine."""

import json

import pyro
import pytest
import torch

from pvae_pyro.experiments.bench import speed
from pvae_pyro.experiments.bench.by_hand import ByHand, PackedLSTM, PaddedLSTM
from pvae_pyro.experiments.support.build import build
from tests.support.configs import config


@pytest.mark.parametrize("lstm", [PackedLSTM, PaddedLSTM, None])
def test_the_objective_by_hand_equals_that_of_pyro(monkeypatch, lstm):
    for module in ("pvae_pyro.experiments.bench.by_hand", "pvae_pyro.elbo"):
        monkeypatch.setattr(f"{module}.derangement", lambda size, device: torch.arange(size) - 1)
    settings = config("--num-cells", 12, "--objective", "paper", max_frames=9)
    batch = speed.noise_batch(torch.tensor([5, 9, 2, 7, 7, 1]))
    svi = build(settings)
    by_hand = ByHand(svi, settings, lstm)
    pyro.set_rng_seed(3)
    expected = svi.evaluate_loss(batch) / 6
    pyro.set_rng_seed(3)
    loss = by_hand(batch)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert all(parameter.grad is not None for parameter in svi.parameters())


def test_the_tables_are_printed_and_written(capsys, tmp_path):
    file = tmp_path / "speed.json"
    options = ["--repeats", "1", "--cells", "8", "--batch", "6", "--threads", "1"]
    assert speed.main([*options, "--json", str(file)]) == 0
    text, figures = capsys.readouterr().out, json.loads(file.read_text())
    for preset in ("paper", "quick"):
        assert figures[preset]["rows"].keys() == {speed.PYRO, *speed.BY_HAND}
        assert figures[preset]["speedup_over_packed"] > 0
    assert all(text.count(row) == 2 for row in speed.BY_HAND)
    assert figures["versions"]["torch"] == torch.__version__.split("+")[0]
