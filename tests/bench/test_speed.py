"""The benchmarks compute what they say; their figures are for an idle machine."""

import json

import pyro
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pvae_pyro.experiments.bench import noise, speed
from pvae_pyro.experiments.bench.noise import Case
from pvae_pyro.experiments.bench.plain import PackedLSTM, PaddedLSTM, PlainPVAE
from pvae_pyro.experiments.bench.work import (
    LOG_FRAMES,
    counted_operations,
    draw_lengths,
    interleaved,
)
from pvae_pyro.experiments.support.build import build
from pvae_pyro.nn.lstm import native_cell as lstm_native
from pvae_pyro.nn.lstm.recurrent import RaggedLSTM
from pvae_pyro.nn.packing import Packing
from tests.support.configs import config

LENGTHS = torch.tensor([5, 9, 2, 7, 7, 1])


def tiny_config(objective="paper"):
    return config("--num-cells", 12, "--objective", objective, max_frames=9)


@pytest.mark.parametrize("lstm", [PackedLSTM, PaddedLSTM, None])
def test_the_objective_by_hand_is_the_one_of_pyro(monkeypatch, lstm):
    for module in ("pvae_pyro.experiments.bench.plain", "pvae_pyro.elbo"):
        monkeypatch.setattr(f"{module}.derangement", lambda size, device: torch.arange(size) - 1)
    settings, batch = tiny_config(), speed.make_batch(LENGTHS)
    svi = build(settings)
    plain = PlainPVAE(svi, settings, lstm)
    pyro.set_rng_seed(3)
    expected = svi.evaluate_loss(batch) / len(LENGTHS)
    pyro.set_rng_seed(3)
    loss = plain(batch)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert all(parameter.grad is not None for parameter in svi.parameters())


@pytest.mark.parametrize("lstm", [PackedLSTM, PaddedLSTM, None])
def test_our_objective_by_hand_is_the_one_of_pyro(monkeypatch, lstm):
    """All noise is a constant: the two draw it in another order."""
    for module in (
        "pvae_pyro.experiments.bench.plain",
        "pvae_pyro.elbo",
        "pvae_pyro.objective.latent_recovery",
    ):
        monkeypatch.setattr(f"{module}.derangement", lambda size, device: torch.arange(size) - 1)
    noise = 0.3
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.full_like(x, noise))
    monkeypatch.setattr(
        "torch.distributions.normal._standard_normal",
        lambda shape, dtype, device: torch.full(shape, noise, dtype=dtype, device=device),
    )
    # The prior's own draws, which are of no gradient, torch.normal makes.
    monkeypatch.setattr(torch, "normal", lambda loc, scale: loc + noise * scale)
    settings, batch = tiny_config("ours"), speed.make_batch(LENGTHS)
    assert settings.gamma > 0 < settings.delta
    svi = build(settings)
    plain = PlainPVAE(svi, settings, lstm)
    terms = svi.terms(batch)
    loss = plain(batch)
    assert loss.item() == pytest.approx(-terms["objective"].mean().item(), rel=1e-5)
    parameters = list(svi.parameters())
    by_hand = torch.autograd.grad(loss, parameters)
    expected = torch.autograd.grad(-terms["objective"].mean(), parameters)
    for found, wanted in zip(by_hand, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("constant", [False, True])
def test_operations_are_those_that_torch_counts(monkeypatch, constant):
    """Of networks by torch, whose products its counter sees, but for ``addmm_``."""
    monkeypatch.setattr(lstm_native, "library", lambda dtype: None)
    lstm, linear = RaggedLSTM(5, 7), nn.Linear(7, 3)
    conv = nn.Sequential(nn.Conv2d(1, 2, 4, 2, 1), nn.ConvTranspose2d(2, 3, 4, 2, 1))
    both, packing = nn.ModuleList([lstm, linear, conv]), Packing.of(LENGTHS, 9)
    x = torch.randn(6, 5) if constant else torch.randn(6, 9, 5)
    image = torch.randn(6, 1, 8, 8)
    with counted_operations(both) as counts, FlopCounterMode(display=False) as counter:
        states = lstm.unroll(x, packing) if constant else lstm.last_state(x, packing)
        (linear(states).sum() + conv(image).sum()).backward()
    recurrent_forward = 2 * (4 * 7) * 7 * int(LENGTHS.sum() - len(LENGTHS))
    assert sum(counts) == counter.get_total_flops() + recurrent_forward
    assert "last_state" not in vars(lstm)  # left as it was


def test_interleaved_takes_turns():
    seen = []
    times = interleaved({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 2, 1)
    assert seen == ["a", "b"] * 3
    assert times["a"].least <= times["a"].middle <= times["a"].most


@pytest.mark.parametrize("corpus", LOG_FRAMES)
def test_lengths_without_a_corpus(tmp_path, corpus):
    lengths = draw_lengths(corpus, tmp_path, 4000)
    loc, scale = LOG_FRAMES[corpus]
    assert lengths.max() <= 80
    assert lengths.min() >= 1
    log = lengths.double().log()
    assert log.median().item() == pytest.approx(loc, abs=0.03)
    assert log.quantile(0.16).item() == pytest.approx(loc - scale, abs=0.05)


@pytest.mark.parametrize("corpus", LOG_FRAMES)
def test_lengths_of_a_corpus(data_root, corpus):
    """The constants are those of the corpora that are here."""
    lengths = draw_lengths(corpus, data_root, 2000)
    loc, scale = LOG_FRAMES[corpus]
    log = lengths.double().log()
    assert log.mean().item() == pytest.approx(loc, abs=0.03)
    assert log.std().item() == pytest.approx(scale, abs=0.03)


def test_bench_prints_and_writes_what_it_promises(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "LARGE", ((64, 64, 64),))
    monkeypatch.setattr(speed, "keep_freed_memory", lambda: True)  # not for later tests
    trained = {"step_seconds": 1.0, "peak_memory_mib": 300.0}
    monkeypatch.setattr(speed, "measure", lambda *args, **kwargs: trained)
    file = tmp_path / "bench.json"
    options = ["--repeats", "1", "--cells", "8", "--batch", "6", "--threads", "1"]
    assert speed.main([*options, "--json", str(file)]) == 0
    text, figures = capsys.readouterr().out, json.loads(file.read_text())
    for row in ("nn.LSTM, packed", "nn.LSTM, padded", "ours, encoder", "Pyro, our networks"):
        assert row in text
    for name in (
        "matmul_gflops", "lstm_fraction_of_limit", "lstm_fraction_of_own_products",
        "lstm_speedup_vs_packed", "step_speedup_vs_packed", "step_speedup_vs_padded",
        "step_speedup_vs_packed_tuned",
        "step_time_over_limit", "pyro_overhead", "loader_share", "features_times_real_time",
        "peak_memory_mib", "ranks_speedup",
    ):  # fmt: skip
        assert isinstance(figures[name], float), name
    assert figures["versions"]["torch"] == torch.__version__.split("+")[0]


def test_training_on_noise_in_processes_of_their_own():
    small = {"examples": 60, "cells": 8, "batch": 16}
    figures = noise.measure(Case(**small), ranks=2, threads=1)
    assert {name: figures[name] for name in small} == small
    assert figures["step_seconds"] > 0
    assert 100 < figures["peak_memory_mib"] < 4000
