"""The LSTM in C equals the one by torch, where numbers are ordinary and where they are not."""

import os
import shutil
import tempfile

import pytest
import torch
from torch import Tensor

from pvae_pyro.nn.lstm import compiled as native
from pvae_pyro.nn.lstm import native_cell as lstm_native
from pvae_pyro.nn.lstm.recurrent import RaggedLSTM, cpu_language
from pvae_pyro.nn.packing import Packing

DTYPES = [torch.float32, torch.float64]
DEFINES = lstm_native._DEFINES[torch.float32]

compiled = pytest.mark.skipif(
    native.build("lstm.c", *DEFINES) is None, reason="no C compiler, or PVAE_NATIVE=0"
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def everything(lstm: RaggedLSTM, x: Tensor, lengths: list[int]) -> list[Tensor]:
    """States, last states, and the gradients of x and the weights."""
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
def test_it_builds_where_there_is_a_compiler() -> None:
    """Else every other test here would be skipped without a word."""
    assert all(lstm_native.library(dtype) is not None for dtype in DTYPES)


@compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("constant", [False, True])
# Below, at and above what one vector, one tile and one task hold, on any processor.
@pytest.mark.parametrize(
    ("hidden", "features", "batch"), [(1, 1, 1), (64, 64, 6), (65, 17, 7), (130, 100, 120)]
)
def test_in_c_as_by_torch(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    constant: bool,
    hidden: int,
    features: int,
    batch: int,
) -> None:
    assert cpu_language() == "C"
    lstm = RaggedLSTM(features, hidden).to(dtype)
    lengths = torch.randint(1, 8, (batch,)).tolist()
    shape = (batch, features) if constant else (batch, max(lengths), features)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    ours = everything(lstm, x, lengths)
    monkeypatch.setattr(lstm_native, "library", lambda dtype: None)
    theirs = everything(lstm, x, lengths)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(
            a, b, rtol=tolerance, atol=tolerance * float(b.detach().abs().max())
        )


@compiled
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_goes_where_torch_sends_it(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    lstm = RaggedLSTM(3, 20).to(dtype)
    x = torch.randn(4, 5, 3, dtype=dtype)
    x[1, 2, 0] = float("nan")
    ours = everything(lstm, x.requires_grad_(), [5, 4, 3, 1])
    monkeypatch.setattr(lstm_native, "library", lambda dtype: None)
    theirs = everything(lstm, x, [5, 4, 3, 1])
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.isnan(), b.isnan())
    assert ours[1].isnan().all(1).tolist() == [False, True, False, False]


@compiled
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


@compiled
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_same_bits_by_any_number_of_threads(threads: int) -> None:
    lstm = RaggedLSTM(10, 96)
    x = torch.randn(120, 7, 10, requires_grad=True)
    lengths = torch.randint(1, 8, (120,)).tolist()
    before, found = torch.get_num_threads(), []
    for number in (1, threads):
        torch.set_num_threads(number)
        try:
            packing = Packing.of(torch.tensor(lengths), 7)
            states, last = lstm(x, packing)
            loss = states.square().sum() + last.sum()
            found.append([states, last, *torch.autograd.grad(loss, list(lstm.parameters()))])
        finally:
            torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in [
        ("CC", "no-such-compiler"), ("CC", "false"), ("CC", "gcc 'open"), ("PVAE_NATIVE", "0")
    ]:  # fmt: skip
        with monkeypatch.context() as context:
            context.setenv(name, value)
            assert native.build("lstm.c", *DEFINES) is None


def test_without_room_to_build_in(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert native.build("lstm.c", *DEFINES) is None


@pytest.mark.parametrize(
    ("script", "calls", "told"),
    [
        ("sleep 5", 1, "0.5 s"),
        ("echo no licence >&2; exit 1", 4, "no licence"),
        ("exit 0", 4, "library.so"),  # and writes nothing
    ],
)
def test_a_compiler_that_is_of_no_use_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path, caplog, script: str, calls: int, told: str
) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/calls\n{script}\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", f"{compiler} with-an-argument")
    monkeypatch.setattr(native, "SECONDS", 0.5 if calls == 1 else 60.0)
    with caplog.at_level("INFO"):
        assert native.build("lstm.c", *DEFINES) is None
    assert (tmp_path / "calls").read_text() == "with-an-argument\n" * calls
    assert told in caplog.text
    assert str(compiler) in caplog.text


@compiled
@pytest.mark.parametrize("unknown", ["-march", "-fopenmp", "-march*|*-fopenmp"])
def test_compiler_that_does_not_know_an_option(
    monkeypatch: pytest.MonkeyPatch, tmp_path, unknown: str
) -> None:
    script = tmp_path / "old-cc"
    script.write_text(f'#!/bin/sh\ncase "$*" in *{unknown}*) exit 1;; esac\nexec cc "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    lstm_native.library.cache_clear()
    try:
        assert lstm_native.library(torch.float32) is not None
        lstm, packing = RaggedLSTM(3, 20), Packing.of(torch.tensor([2, 5]), 5)
        x = torch.randn(2, 5, 3)
        found = lstm.last_state(x, packing)
        monkeypatch.setattr(lstm_native, "library", lambda dtype: None)
        torch.testing.assert_close(found, lstm.last_state(x, packing))
    finally:
        monkeypatch.undo()
        lstm_native.library.cache_clear()
