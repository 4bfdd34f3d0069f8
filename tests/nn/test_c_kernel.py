"""The LSTM in C: sizes around its blocks, extreme numbers, threads, and compilers that fail."""

import os
import shutil

import pytest
import torch
from torch import Tensor

from pvae_pyro.nn.lstm import c_kernel
from pvae_pyro.nn.lstm.compiler import build
from pvae_pyro.nn.lstm.ragged_lstm import RaggedLSTM
from pvae_pyro.nn.packing import Packing

DTYPES = [torch.float32, torch.float64]
DEFINES = c_kernel._DEFINES[torch.float32]

needs_compiler = pytest.mark.skipif(
    build("lstm.c", *DEFINES) is None, reason="no C compiler, or PVAE_NATIVE=0"
)


needs_amx = pytest.mark.skipif(
    c_kernel.library(torch.float32, True) is c_kernel.library(torch.float32),
    reason="the processor lacks AMX, or nothing was compiled",
)
BFLOAT16 = pytest.mark.parametrize("bfloat16", [False, pytest.param(True, marks=needs_amx)])
# Below, at and above the size of one vector, one tile and one task, on any processor.
SIZE = [(1, 1, 1), (64, 64, 6), (65, 17, 7), (130, 100, 120)]
SIZES = pytest.mark.parametrize(("hidden", "features", "batch"), SIZE)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def states_and_gradients(lstm: RaggedLSTM, x: Tensor, lengths: list[int]) -> list[Tensor]:
    packing = Packing.of(torch.tensor(lengths), max(lengths))
    if x.dim() == 2:
        states = last = lstm.unroll(x, packing)
    else:
        states, last = lstm(x, packing)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(y.shape, generator=generator, dtype=y.dtype) for y in (states, last)]
    loss = (states * weights[0]).sum() + (last * weights[1]).sum()
    return [states, last, *torch.autograd.grad(loss, [x, *lstm.parameters()])]


@pytest.mark.skipif(
    not shutil.which("cc") or os.environ.get("PVAE_NATIVE") == "0", reason="no C compiler"
)
def test_it_builds_if_there_is_a_compiler() -> None:
    """Otherwise every other test here would be skipped silently."""
    assert all(c_kernel.library(dtype) is not None for dtype in DTYPES)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("constant", [False, True])
@SIZES
def test_c_equals_torch(monkeypatch, dtype, constant, hidden, features, batch) -> None:
    lstm = RaggedLSTM(features, hidden).to(dtype)
    lengths = torch.randint(1, 8, (batch,)).tolist()
    shape = (batch, features) if constant else (batch, max(lengths), features)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    ours = states_and_gradients(lstm, x, lengths)
    monkeypatch.setattr(c_kernel, "library", lambda *types: None)
    theirs = states_and_gradients(lstm, x, lengths)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(
            a, b, rtol=tolerance, atol=tolerance * float(b.detach().abs().max())
        )


@needs_amx
@pytest.mark.parametrize("constant", [False, True])
# The last is deeper than a block of the left side of a product.
@pytest.mark.parametrize(("hidden", "features", "batch"), [*SIZE, (530, 600, 3)])
def test_bfloat16_products_are_close(constant, hidden, features, batch) -> None:
    lstm = RaggedLSTM(features, hidden)
    lengths = torch.randint(1, 8, (batch,)).tolist()
    shape = (batch, features) if constant else (batch, max(lengths), features)
    x = torch.randn(shape, requires_grad=True)
    expected = states_and_gradients(lstm, x, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        found = states_and_gradients(lstm, x, lengths)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert 0 < (a - b).norm() < 0.01 * b.norm()


@needs_amx
@SIZES
def test_products_of_bfloat16_numbers_are_exact(hidden, features, batch) -> None:
    """In the first frame the state is zero, so all factors are bfloat16 numbers already."""
    lstm = RaggedLSTM(features, hidden)
    with torch.no_grad():
        for weight in lstm.parameters():
            weight.copy_(weight.bfloat16())
    x = torch.randn(batch, 1, features).bfloat16().float()
    packing = Packing.of(torch.ones(batch, dtype=torch.int64), 1)
    expected = lstm.last_state(x, packing)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(lstm.last_state(x, packing), expected, rtol=1e-5, atol=1e-6)


@needs_compiler
@BFLOAT16
def test_nan_stays_in_its_row(bfloat16) -> None:
    lstm = RaggedLSTM(3, 20)
    x = torch.randn(4, 5, 3)
    x[1, 2, 0] = float("nan")
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        _, last, grad_x, *_ = states_and_gradients(lstm, x.requires_grad_(), [5, 4, 3, 1])
    assert last.isnan().all(1).tolist() == [False, True, False, False]
    assert grad_x.isnan().any(2).any(1).tolist() == [False, True, False, False]


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_numbers(dtype: torch.dtype) -> None:
    """One step whose gates are set by the bias: h = σ(o) tanh(σ(i) tanh(g))."""
    values = [0.0, 1e-30, -1e-8, 1e-4, -0.34, 0.35, 9.0, -20.0, 60.0, 88.8, -104.0, 1e4, -1e30]
    row = torch.tensor([*values, float("inf"), -float("inf"), float("nan")], dtype=dtype)
    lstm = RaggedLSTM(1, len(row)).to(dtype).requires_grad_(False)
    bias = lstm.get_parameter("bias_ih_l0").view(4, -1)
    packing = Packing.of(torch.tensor([1]), 1)
    for parameter in lstm.parameters():
        parameter.zero_()
    for gate in (0, 2, 3):
        bias.fill_(100.0)  # σ(100) and tanh(100) are 1
        bias[gate] = row
        found = lstm.last_state(torch.zeros(1, 1, 1, dtype=dtype), packing)[0]
        i, _, g, o = bias.double()
        expected = (o.sigmoid() * (i.sigmoid() * g.tanh()).tanh()).to(dtype)
        # Relative also where it is tiny: no cancellation. A sigmoid below 1e-36 may be clamped.
        tolerance = 8 * torch.finfo(dtype).eps
        atol = 0.0 if gate == 2 else 1e-36
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=atol, equal_nan=True)


@needs_compiler
@BFLOAT16
def test_the_number_of_threads_changes_no_bit(bfloat16) -> None:
    lstm = RaggedLSTM(10, 96)
    x = torch.randn(120, 7, 10, requires_grad=True)
    lengths = torch.randint(1, 8, (120,)).tolist()
    before, found = torch.get_num_threads(), []
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                found.append(states_and_gradients(lstm, x, lengths))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize(
    ("variable", "value", "logged"),
    [
        ("CC", "no-such-compiler", "no-such-compiler"),
        ("CC", "false", "false"),
        ("CC", "gcc 'open", "quotation"),
        ("CC", "true", "library.so"),  # it ends well and writes nothing
        ("PVAE_NATIVE", "0", ""),
    ],
)
def test_a_failing_compiler_is_logged(monkeypatch, caplog, variable, value, logged) -> None:
    monkeypatch.setenv(variable, value)
    with caplog.at_level("INFO"):
        assert build("lstm.c", *DEFINES) is None
    assert logged in caplog.text


@needs_compiler
@pytest.mark.parametrize("unknown", ["-march", "-march*|*-fopenmp"])
def test_a_compiler_may_lack_an_option(monkeypatch, tmp_path, unknown: str) -> None:
    script = tmp_path / "old-cc"
    script.write_text(f'#!/bin/sh\ncase "$*" in *{unknown}*) exit 1;; esac\nexec cc "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    assert build("lstm.c", *DEFINES) is not None
