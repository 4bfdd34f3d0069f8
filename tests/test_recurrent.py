"""RaggedLSTM agrees with nn.LSTM on packed sequences, in value and gradient."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pvae_pyro.nn import lstm_cell
from pvae_pyro.nn.recurrent import RaggedLSTM

FEATURES, HIDDEN, FRAMES = 5, 7, 9
LENGTHS = torch.tensor([3, 8, 1, 8, 4, 6])


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, params=["in C", "by torch"])
def cell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by torch":
        monkeypatch.setattr(lstm_cell, "_library", lambda dtype: None)
    elif lstm_cell._library(torch.float32) is None:
        pytest.skip("no C compiler")


@pytest.fixture
def lstm() -> RaggedLSTM:
    return RaggedLSTM(FEATURES, HIDDEN)


def inputs(constant: bool, lengths: Tensor = LENGTHS, dtype: torch.dtype | None = None) -> Tensor:
    shape = (len(lengths), FEATURES) if constant else (len(lengths), FRAMES, FEATURES)
    return torch.randn(shape, dtype=dtype, requires_grad=True)


def run(lstm: RaggedLSTM, x: Tensor, lengths: Tensor = LENGTHS) -> Tensor:
    return lstm.unroll(x, lengths, FRAMES) if x.dim() == 2 else lstm.last_state(x, lengths)


def library(lstm: nn.LSTM, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
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


SEVERAL_LENGTHS = [LENGTHS, torch.tensor([4]), torch.tensor([1]), torch.tensor([1, 1]),
                   torch.tensor([FRAMES] * 3), torch.tensor([2, 9, 9, 1, 5]),
                   torch.arange(1, 10), torch.arange(9, 0, -1)]  # fmt: skip


@pytest.mark.parametrize("lengths", SEVERAL_LENGTHS, ids=lambda lengths: str(lengths.tolist()))
@pytest.mark.parametrize("threads", [1, 2])
def test_equals_packed_lstm(lstm: RaggedLSTM, lengths: Tensor, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        frames, constant = inputs(False, lengths), inputs(True, lengths)
        repeated = constant.unsqueeze(1).expand(-1, FRAMES, -1)
        outputs, last = library(lstm, frames, lengths)
        unrolled, _ = library(lstm, repeated, lengths)
        both = lstm(frames, lengths)
        weight = torch.randn(len(lengths), FRAMES, HIDDEN)
        for ours, theirs, x, w in [
            (lstm.last_state(frames, lengths), last, frames, weight[:, 0]),
            (lstm.unroll(constant, lengths, FRAMES), unrolled, constant, weight),
            (both[0], outputs, frames, weight),
            (both[1], last, frames, weight[:, 0]),
            (both[0].sum(1) * both[1], outputs.sum(1) * last, frames, weight[:, 0]),
        ]:
            assert_close(ours, theirs)
            expected = gradients((w * theirs).sum(), lstm, x)
            for a, b in zip(gradients((w * ours).sum(), lstm, x), expected, strict=True):
                assert_close(a, b)
    finally:
        torch.set_num_threads(before)


def test_equals_packed_lstm_at_a_larger_size() -> None:
    lengths = torch.randint(1, FRAMES + 1, (64,))
    lstm, x = RaggedLSTM(FEATURES, 128), inputs(False, lengths)
    ours, theirs = lstm.last_state(x, lengths), library(lstm, x, lengths)[1]
    assert_close(ours, theirs)
    expected = gradients(theirs.square().sum(), lstm, x)
    for a, b in zip(gradients(ours.square().sum(), lstm, x), expected, strict=True):
        assert_close(a, b)


def test_one_step_by_hand() -> None:
    lstm = RaggedLSTM(1, 1)
    with torch.no_grad():
        lstm.get_parameter("weight_ih_l0").copy_(torch.tensor([[1.0], [0.0], [2.0], [-1.0]]))
        lstm.get_parameter("bias_ih_l0").zero_()
        lstm.get_parameter("bias_hh_l0").copy_(torch.tensor([0.5, 0.0, 0.0, 0.0]))
    last = lstm.last_state(torch.tensor([[[0.3]]]), torch.tensor([1]))
    x = torch.tensor(0.3)  # i = sigmoid(x + 0.5), g = tanh(2x), o = sigmoid(-x), c = i g
    expected = torch.sigmoid(-x) * torch.tanh(torch.sigmoid(x + 0.5) * torch.tanh(2 * x))
    torch.testing.assert_close(last, expected.reshape(1, 1))


@pytest.mark.parametrize("constant", [False, True])
def test_gradcheck(lstm: RaggedLSTM, constant: bool) -> None:
    lstm.double()
    x = inputs(constant, dtype=torch.float64)

    def function(x: Tensor, *parameters: Tensor) -> Tensor:  # the latter are perturbed in place
        return run(lstm, x)

    assert torch.autograd.gradcheck(function, (x, *lstm.parameters()))
    assert torch.autograd.gradcheck(lambda x: lstm(x, LENGTHS), inputs(False, dtype=torch.float64))


@pytest.mark.parametrize("filler", [100.0, float("nan")])
def test_padding_influences_nothing(lstm: RaggedLSTM, filler: float) -> None:
    padding = torch.arange(FRAMES) >= LENGTHS.unsqueeze(1)
    x = inputs(False)
    y = x.detach().masked_fill(padding.unsqueeze(-1), filler).requires_grad_()
    a, b = lstm.last_state(x, LENGTHS), lstm.last_state(y, LENGTHS)
    assert torch.equal(a, b)
    grad_a, grad_b = gradients(a.sum(), lstm, x), gradients(b.sum(), lstm, y)
    assert all(torch.equal(p, q) for p, q in zip(grad_a, grad_b, strict=True))
    assert (grad_b[0][padding] == 0).all()


def test_outputs_past_the_length(lstm: RaggedLSTM) -> None:
    padding = (torch.arange(FRAMES) >= LENGTHS.unsqueeze(1)).unsqueeze(-1)
    x = inputs(True)
    outputs = run(lstm, x)
    assert (outputs.masked_select(padding) == 0).all()
    weight = torch.ones_like(outputs)
    plain = torch.autograd.grad(outputs, x, weight, retain_graph=True)[0]
    spoilt = torch.autograd.grad(outputs, x, weight.masked_fill(padding, float("nan")))[0]
    assert torch.equal(plain, spoilt)


@pytest.mark.parametrize("constant", [False, True])
def test_order_of_rows(lstm: RaggedLSTM, constant: bool) -> None:
    x, order = inputs(constant), torch.randperm(len(LENGTHS))
    torch.testing.assert_close(run(lstm, x)[order], run(lstm, x[order], LENGTHS[order]))


def test_state_dict_interchanges(lstm: RaggedLSTM) -> None:
    theirs = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
    theirs.load_state_dict(lstm.state_dict())
    other = RaggedLSTM(FEATURES, HIDDEN)
    other.load_state_dict(theirs.state_dict())
    x = inputs(False)
    assert torch.equal(run(lstm, x), run(other, x))
    torch.manual_seed(1)
    ours = RaggedLSTM(FEATURES, HIDDEN)
    torch.manual_seed(1)
    theirs = nn.LSTM(FEATURES, HIDDEN)
    for name, parameter in theirs.named_parameters():  # the same initialisation
        assert torch.equal(parameter, ours.get_parameter(name))


@pytest.mark.parametrize("lengths", [[0, 1], [3, -1], [3, FRAMES + 1], [3], [1, 2, 3], []])
def test_bad_lengths(lstm: RaggedLSTM, lengths: list[int]) -> None:
    bad = torch.tensor(lengths, dtype=torch.int64)
    with pytest.raises(ValueError, match="lengths"):
        lstm.last_state(torch.randn(2, FRAMES, FEATURES), bad)
    with pytest.raises(ValueError, match="lengths"):
        lstm.unroll(torch.randn(2, FEATURES), bad, FRAMES)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(lstm: RaggedLSTM, constant: bool, mode: type) -> None:
    x = inputs(constant)
    expected = run(lstm, x)
    with mode():
        result = run(lstm, x)
    assert not result.requires_grad
    assert torch.equal(result, expected)


@pytest.mark.parametrize("constant", [False, True])
def test_backward_twice_over_a_retained_graph(lstm: RaggedLSTM, constant: bool) -> None:
    x = inputs(constant)
    loss = run(lstm, x).square().sum()
    first, second = gradients(loss, lstm, x), gradients(loss, lstm, x)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_gradient_of_gradient_is_refused(lstm: RaggedLSTM) -> None:
    x = inputs(False)
    (grad,) = torch.autograd.grad(run(lstm, x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("constant", [False, True])
def test_some_parameters_frozen(lstm: RaggedLSTM, constant: bool) -> None:
    x, trained = inputs(constant), lstm.get_parameter("weight_hh_l0")
    (expected,) = torch.autograd.grad(run(lstm, x).sum(), trained)
    lstm.requires_grad_(False)
    trained.requires_grad_(True)
    run(lstm, x.detach()).sum().backward()
    assert [name for name, p in lstm.named_parameters() if p.grad is not None] == ["weight_hh_l0"]
    torch.testing.assert_close(trained.grad, expected)


@pytest.mark.parametrize("constant", [False, True])
def test_autocast_takes_the_library_path(lstm: RaggedLSTM, constant: bool) -> None:
    x = inputs(constant)
    expected = run(lstm, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = run(lstm, x)
    assert "LSTM" not in type(result.grad_fn).__name__
    torch.testing.assert_close(result.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("constant", [False, True])
def test_cuda_equals_cpu(lstm: RaggedLSTM, constant: bool) -> None:
    x = inputs(constant)
    expected = run(lstm, x)
    for lengths in (LENGTHS, LENGTHS.cuda()):
        result = run(lstm.cuda(), x.cuda(), lengths)
        torch.testing.assert_close(result.cpu(), expected, rtol=1e-3, atol=1e-3)
