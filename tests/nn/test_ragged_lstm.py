"""RaggedLSTM agrees with nn.LSTM on packed sequences, in value and gradient."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pvae_pyro.nn.lstm import c_kernel
from pvae_pyro.nn.lstm.ragged_lstm import RaggedLSTM
from pvae_pyro.nn.packing import Packing

FEATURES, HIDDEN, FRAMES = 5, 7, 9
LENGTHS = torch.tensor([3, 8, 1, 8, 4, 6])
INPUTS = pytest.mark.parametrize("constant", [False, True])


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=["C", "torch"])
def language(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr(c_kernel, "library", lambda *types: None)
    elif c_kernel.library(torch.float32) is None:
        pytest.skip("no C compiler")


@pytest.fixture
def lstm() -> RaggedLSTM:
    return RaggedLSTM(FEATURES, HIDDEN)


def inputs(constant: bool, lengths: Tensor = LENGTHS, dtype: torch.dtype | None = None) -> Tensor:
    shape = (len(lengths), FEATURES) if constant else (len(lengths), FRAMES, FEATURES)
    return torch.randn(shape, dtype=dtype, requires_grad=True)


def run(lstm: RaggedLSTM, x: Tensor, lengths: Tensor = LENGTHS) -> Tensor:
    packing = Packing.of(lengths, FRAMES)
    return packing.pad(lstm.unroll(x, packing)) if x.dim() == 2 else lstm.last_state(x, packing)


def both(lstm: RaggedLSTM, x: Tensor, lengths: Tensor = LENGTHS) -> tuple[Tensor, Tensor]:
    """Padded outputs and last states."""
    packing = Packing.of(lengths, FRAMES)
    packed, last = lstm(x, packing)
    return packing.pad(packed), last


def library(lstm: nn.LSTM, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Padded outputs and last states of torch's LSTM with the same parameters."""
    reference = nn.LSTM(lstm.input_size, lstm.hidden_size, batch_first=True).to(x.dtype)
    for name in dict(reference.named_parameters()):
        setattr(reference, name, getattr(lstm, name))  # the same leaves: gradients compare
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    outputs, (last, _) = reference(packed)
    return pad_packed_sequence(outputs, batch_first=True, total_length=FRAMES)[0], last[0]


def gradients(loss: Tensor, lstm: RaggedLSTM, x: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, [x, *lstm.parameters()], retain_graph=True)


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(
        ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.detach().abs().max())
    )


@pytest.mark.usefixtures("language")
@pytest.mark.parametrize("lengths", [LENGTHS.tolist(), [1], [FRAMES] * 3, [*range(9, 0, -1)]])
@pytest.mark.parametrize("threads", [1, 2])
def test_equals_packed_lstm(lstm: RaggedLSTM, lengths: list[int], threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    given = torch.tensor(lengths)
    try:
        frames, constant = inputs(False, given), inputs(True, given)
        repeated = constant.unsqueeze(1).expand(-1, FRAMES, -1)
        outputs, last = library(lstm, frames, given)
        unrolled, _ = library(lstm, repeated, given)
        padded, at_end = both(lstm, frames, given)
        weight = torch.randn(len(given), FRAMES, HIDDEN)
        for ours, theirs, x, w in [
            (run(lstm, frames, given), last, frames, weight[:, 0]),
            (run(lstm, constant, given), unrolled, constant, weight),
            (padded, outputs, frames, weight),
            (padded.sum(1) * at_end, outputs.sum(1) * last, frames, weight[:, 0]),
        ]:
            assert_close(ours, theirs)
            expected = gradients((w * theirs).sum(), lstm, x)
            for a, b in zip(gradients((w * ours).sum(), lstm, x), expected, strict=True):
                assert_close(a, b)
    finally:
        torch.set_num_threads(before)


@INPUTS
def test_gradcheck(lstm: RaggedLSTM, constant: bool) -> None:
    lstm.double()
    x = inputs(constant, dtype=torch.float64)

    def function(x: Tensor, *parameters: Tensor) -> Tensor:  # gradcheck perturbs them in place
        return run(lstm, x)

    assert torch.autograd.gradcheck(function, (x, *lstm.parameters()))
    assert torch.autograd.gradcheck(lambda x: both(lstm, x), inputs(False, dtype=torch.float64))


@pytest.mark.usefixtures("language")
@pytest.mark.parametrize("filler", [100.0, float("nan")])
def test_padding_influences_nothing(lstm: RaggedLSTM, filler: float) -> None:
    padding = torch.arange(FRAMES) >= LENGTHS.unsqueeze(1)
    x = inputs(False)
    y = x.detach().masked_fill(padding.unsqueeze(-1), filler).requires_grad_()
    a, b = run(lstm, x), run(lstm, y)
    assert torch.equal(a, b)
    grad_a, grad_b = gradients(a.sum(), lstm, x), gradients(b.sum(), lstm, y)
    assert all(torch.equal(p, q) for p, q in zip(grad_a, grad_b, strict=True))
    assert (grad_b[0][padding] == 0).all()


@pytest.mark.usefixtures("language")
def test_outputs_past_the_length_are_zero_and_have_no_gradient(lstm: RaggedLSTM) -> None:
    padding = (torch.arange(FRAMES) >= LENGTHS.unsqueeze(1)).unsqueeze(-1)
    x = inputs(True)
    outputs = run(lstm, x)
    assert (outputs.masked_select(padding) == 0).all()
    weight = torch.ones_like(outputs)
    plain = torch.autograd.grad(outputs, x, weight, retain_graph=True)[0]
    spoilt = torch.autograd.grad(outputs, x, weight.masked_fill(padding, float("nan")))[0]
    assert torch.equal(plain, spoilt)


def test_state_dict_and_initial_weights_are_those_of_torch(lstm: RaggedLSTM) -> None:
    theirs = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
    theirs.load_state_dict(lstm.state_dict())
    torch.manual_seed(1)
    ours = RaggedLSTM(FEATURES, HIDDEN)
    torch.manual_seed(1)
    for name, parameter in nn.LSTM(FEATURES, HIDDEN).named_parameters():
        assert torch.equal(parameter, ours.get_parameter(name))


@pytest.mark.parametrize(
    "shape", [(3, FEATURES), (6, 8, FEATURES), (6, FEATURES - 1), (6, FRAMES, 500)]
)
def test_x_of_another_batch_or_of_other_features_is_refused(
    lstm: RaggedLSTM, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="lengths are of|features"):
        lstm(torch.randn(shape), Packing.of(LENGTHS, FRAMES))


@pytest.mark.usefixtures("language")
@INPUTS
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(lstm: RaggedLSTM, constant: bool, mode: type) -> None:
    x = inputs(constant)
    expected = run(lstm, x)
    with mode():
        result = run(lstm, x)
    assert not result.requires_grad
    torch.testing.assert_close(result, expected)


@INPUTS
def test_backward_twice_over_a_retained_graph(lstm: RaggedLSTM, constant: bool) -> None:
    x = inputs(constant)
    loss = run(lstm, x).square().sum()
    first, second = gradients(loss, lstm, x), gradients(loss, lstm, x)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@INPUTS
def test_some_parameters_frozen(lstm: RaggedLSTM, constant: bool) -> None:
    x, trained = inputs(constant), lstm.get_parameter("weight_hh_l0")
    (expected,) = torch.autograd.grad(run(lstm, x).sum(), trained)
    lstm.requires_grad_(False)
    trained.requires_grad_(True)
    run(lstm, x.detach()).sum().backward()
    assert [name for name, p in lstm.named_parameters() if p.grad is not None] == ["weight_hh_l0"]
    torch.testing.assert_close(trained.grad, expected)


@pytest.mark.usefixtures("language")
@INPUTS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_states_are_float32_under_autocast(
    lstm: RaggedLSTM, constant: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if c_kernel.library(torch.float32) is not None:  # tests of AMX are in test_c_kernel.py
        without_amx = c_kernel.library(torch.float32)
        monkeypatch.setattr(c_kernel, "library", lambda *types: without_amx)
    x = inputs(constant)
    expected = run(lstm, x)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(run(lstm, x), expected)
        of_half = run(lstm, x.to(dtype))
    assert of_half.dtype == torch.float32
    assert torch.equal(of_half, run(lstm, x.to(dtype).float()))


@pytest.mark.parametrize("hidden", [HIDDEN, 64])  # at 64 the C code writes the output itself
def test_reused_buffers_never_change_what_a_caller_holds(hidden: int) -> None:
    lstm = RaggedLSTM(FEATURES, hidden)
    x, other = inputs(False), inputs(False)
    packing = Packing.of(LENGTHS, FRAMES)
    outputs, last = lstm(x, packing)
    loss = outputs.square().sum() + last.sum()
    unrolled = lstm.unroll(inputs(True), packing)
    with torch.no_grad():
        drawn = lstm.unroll(inputs(True), packing)
    held = [outputs, last, unrolled, drawn]
    before = [part.clone() for part in held]
    expected = gradients(sum(part.sum() for part in both(lstm, other)), lstm, other)
    gradients(loss, lstm, x)
    for _ in range(3):
        again = gradients(sum(part.sum() for part in both(lstm, other)), lstm, other)
        assert all(torch.equal(a, b) for a, b in zip(again, expected, strict=True))
        with torch.no_grad():
            run(lstm, other)
    assert all(torch.equal(a, b) for a, b in zip(held, before, strict=True))


def test_a_change_in_place_is_an_error(lstm: RaggedLSTM) -> None:
    outputs, _ = lstm(inputs(False), Packing.of(LENGTHS, FRAMES))
    outputs.mul_(3)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.square().sum().backward()


def test_made_in_inference_mode_and_trained_later(lstm: RaggedLSTM) -> None:
    with torch.inference_mode():
        packing = Packing.of(LENGTHS.clone(), FRAMES)
        lstm.last_state(inputs(False), packing)  # its buffers are used again
    x = inputs(True)
    loss = packing.pad(lstm.unroll(x, packing)).sum()
    assert all(g.isfinite().all() for g in gradients(loss, lstm, x))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@INPUTS
def test_cuda_equals_cpu(lstm: RaggedLSTM, constant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    x = inputs(constant)
    expected = run(lstm, x)
    result = run(lstm.cuda(), x.cuda())
    torch.testing.assert_close(result.cpu(), expected, rtol=1e-3, atol=1e-3)
