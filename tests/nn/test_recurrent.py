"""RaggedLSTM agrees with nn.LSTM on packed sequences, in value and gradient."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pvae_pyro.nn.lstm import native_cell as lstm_native
from pvae_pyro.nn.lstm.recurrent import RaggedLSTM
from pvae_pyro.nn.packing import Packing

FEATURES, HIDDEN, FRAMES = 5, 7, 9
LENGTHS = torch.tensor([3, 8, 1, 8, 4, 6])


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, params=["in C", "by torch"])
def language(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by torch":
        monkeypatch.setattr(lstm_native, "library", lambda dtype: None)
    elif lstm_native.library(torch.float32) is None:
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
        padded, at_end = both(lstm, frames, lengths)
        weight = torch.randn(len(lengths), FRAMES, HIDDEN)
        for ours, theirs, x, w in [
            (run(lstm, frames, lengths), last, frames, weight[:, 0]),
            (run(lstm, constant, lengths), unrolled, constant, weight),
            (padded, outputs, frames, weight),
            (at_end, last, frames, weight[:, 0]),
            (padded.sum(1) * at_end, outputs.sum(1) * last, frames, weight[:, 0]),
        ]:
            assert_close(ours, theirs)
            expected = gradients((w * theirs).sum(), lstm, x)
            for a, b in zip(gradients((w * ours).sum(), lstm, x), expected, strict=True):
                assert_close(a, b)
    finally:
        torch.set_num_threads(before)


def test_equals_packed_lstm_at_a_larger_size() -> None:
    lengths = torch.randint(1, FRAMES + 1, (150,))  # more rows and frames than a task in C has
    lstm, x = RaggedLSTM(FEATURES, 150), inputs(False, lengths)
    outputs, last = library(lstm, x, lengths)
    ours = both(lstm, x, lengths)
    for a, b in zip(ours, (outputs, last), strict=True):
        assert_close(a, b)
    expected = gradients((outputs.square().sum() + last.sum()), lstm, x)
    for a, b in zip(
        gradients(ours[0].square().sum() + ours[1].sum(), lstm, x), expected, strict=True
    ):
        assert_close(a, b)


def test_one_step_by_hand() -> None:
    lstm = RaggedLSTM(1, 1)
    with torch.no_grad():
        lstm.get_parameter("weight_ih_l0").copy_(torch.tensor([[1.0], [0.0], [2.0], [-1.0]]))
        lstm.get_parameter("bias_ih_l0").zero_()
        lstm.get_parameter("bias_hh_l0").copy_(torch.tensor([0.5, 0.0, 0.0, 0.0]))
    last = lstm.last_state(torch.tensor([[[0.3]]]), Packing.of(torch.tensor([1]), 1))
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
    assert torch.autograd.gradcheck(lambda x: both(lstm, x), inputs(False, dtype=torch.float64))


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


def test_x_of_another_batch(lstm: RaggedLSTM) -> None:
    packing = Packing.of(LENGTHS, FRAMES)
    for x in (torch.randn(3, FEATURES), torch.randn(3, FRAMES, FEATURES), torch.randn(6, 8, 5)):
        with pytest.raises(ValueError, match="lengths are of"):
            lstm(x, packing)


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
def test_autocast_leaves_it_alone(lstm: RaggedLSTM, constant: bool) -> None:
    x = inputs(constant)
    expected = run(lstm, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(run(lstm, x), expected)
        of_bfloat16 = run(lstm, x.bfloat16())
    assert of_bfloat16.dtype == torch.float32
    assert torch.equal(of_bfloat16, run(lstm, x.bfloat16().float()))


@pytest.mark.parametrize("hidden", [HIDDEN, 64])  # the latter is what C works in: no copy made
def test_what_was_given_out_is_not_used_again(hidden: int) -> None:
    """Buffers are used again; what a caller holds must not change by what comes after."""
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


@pytest.mark.parametrize("hidden", [HIDDEN, 64])
def test_a_change_in_place_is_told(hidden: int) -> None:
    """What the gradient needs must be what was computed."""
    lstm, packing = RaggedLSTM(FEATURES, hidden), Packing.of(LENGTHS, FRAMES)
    outputs, _ = lstm(inputs(False), packing)
    outputs.mul_(3)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.square().sum().backward()


@pytest.mark.parametrize("features", [FEATURES - 1, FEATURES + 1, 500])
def test_x_of_other_features(lstm: RaggedLSTM, features: int) -> None:
    packing = Packing.of(LENGTHS, FRAMES)
    for x in (torch.randn(6, features), torch.randn(6, FRAMES, features)):
        with pytest.raises(ValueError, match=f"x has {features} features"):
            lstm(x, packing)


def test_weights_elsewhere_are_not_read_here(lstm: RaggedLSTM) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        run(lstm.to("meta"), inputs(False)).sum().item()


def test_made_in_inference_mode_and_trained_later(lstm: RaggedLSTM) -> None:
    with torch.inference_mode():
        packing = Packing.of(LENGTHS.clone(), FRAMES)
        lstm.last_state(inputs(False), packing)  # its buffers are used again
    x = inputs(True)
    loss = packing.pad(lstm.unroll(x, packing)).sum()
    assert all(g.isfinite().all() for g in gradients(loss, lstm, x))


def test_two_graphs_at_once(lstm: RaggedLSTM) -> None:
    x, y = inputs(False), inputs(False)
    expected = [gradients(run(lstm, z).square().sum(), lstm, z) for z in (x, y)]
    a, b = run(lstm, x).square().sum(), run(lstm, y).square().sum()
    for found, want in zip((gradients(a, lstm, x), gradients(b, lstm, y)), expected, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(found, want, strict=True))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("constant", [False, True])
def test_cuda_equals_cpu(lstm: RaggedLSTM, constant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    x = inputs(constant)
    expected = run(lstm, x)
    result = run(lstm.cuda(), x.cuda())
    torch.testing.assert_close(result.cpu(), expected, rtol=1e-3, atol=1e-3)
