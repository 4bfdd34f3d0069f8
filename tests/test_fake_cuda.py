"""The objective on CUDA tensors, without a GPU: torch's fake tensors know shapes and devices, and
an operation that mixes devices is an error. Its gradient wants a driver."""

from functools import partial

import pyro
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import PackedSequence

from pvae_pyro.batch import Observation
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.models.priors import Flow, GaussianMixture, StandardNormal, VampPrior
from pvae_pyro.nn.lstm.ragged_lstm import RaggedLSTM
from pvae_pyro.svi import SVI
from tests.support.tiny import tiny_batch, tiny_pair


def recurrence(lstm, x, packing, want_states):
    """As `RaggedLSTM._run`, in shape and device: cuDNN's needs a driver."""
    data = packing.repeat(x) if x.dim() == 2 else packing.pack(x)
    states = data @ lstm.weight_ih_l0[: lstm.hidden_size].t() + lstm.bias_ih_l0[: lstm.hidden_size]
    states = states * lstm.weight_hh_l0.mean() + lstm.bias_hh_l0.mean()
    return states, states[packing.last.to(x.device)]


OURS = RaggedLSTM._run


def cudnn(lstm, sequence):
    """As `nn.LSTM` on CUDA, in shape, device and type: autocast has it compute in float16."""
    half = torch.is_autocast_enabled("cuda")
    states = sequence.data @ lstm.weight_ih_l0[: lstm.hidden_size].t()
    states = states.to(torch.float16) if half else states
    last = states[: len(sequence.sorted_indices)]
    return PackedSequence(states, sequence.batch_sizes), (last.unsqueeze(0), None)


@pytest.fixture
def cuda(monkeypatch):
    """Fake tensors, on a device that is not there."""
    monkeypatch.setattr(RaggedLSTM, "_run", recurrence)
    monkeypatch.setattr(RaggedLSTM, "flatten_parameters", lambda lstm: None)
    with FakeTensorMode(allow_non_fake_inputs=True), pyro.validation_enabled(False):
        try:
            torch.nn.Linear(2, 2, device="cuda")
        except RuntimeError:  # of torch 2.6 to 2.9, where there is no GPU
            pytest.skip("this torch's fake tensors want a driver")
        yield torch.device("cuda")


BATCH = tiny_batch()
PACKING = BATCH["speech"].packing  # of real lengths, which decide shapes


def batch_on(device):
    batch = {
        name: Observation(torch.empty_like(x.value, device=device), x.lengths)
        for name, x in BATCH.items()
    }
    vars(batch["speech"])["packing"] = PACKING
    return batch


def svi_on(device, pair=tiny_pair, **weights):
    with device:  # made there: fake tensors cannot be moved by `Module.to`
        model, guide = pair()
    return SVI(model, guide, partial(torch.optim.Adam, lr=1e-3), PartitionedELBO(**weights))


def terms(device, pair=tiny_pair, **weights):
    return svi_on(device, pair, **weights).terms(batch_on(device))


@pytest.mark.parametrize("gamma", [0.0, 30.0])
@pytest.mark.parametrize("prior", [StandardNormal, GaussianMixture, VampPrior, Flow])
def test_terms_stay_on_their_device(cuda, gamma, prior) -> None:
    found = terms(cuda, partial(tiny_pair, prior), gamma=gamma)
    assert {"objective", "log_prob/speech", "log_prob/speech_log_frames"} < found.keys()
    for name, value in found.items():
        assert value.device.type == "cuda", name
        assert value.shape == (5,), name
        assert value.requires_grad, name


@pytest.mark.parametrize(("encoder", "family"), [("conv", "bernoulli"), ("transformer", "laplace")])
def test_terms_of_other_networks_stay_on_their_device(cuda, encoder, family) -> None:
    networks = {"speech_encoder": encoder, "image_likelihood": family, "learn_scale": True}
    found = terms(cuda, partial(tiny_pair, **networks))
    assert {value.device.type for value in found.values()} == {"cuda"}


def test_the_lstm_is_not_autocast(cuda, monkeypatch) -> None:
    """To float16, as torch would have it, though bfloat16 is asked for."""
    monkeypatch.setattr(RaggedLSTM, "_run", OURS)
    monkeypatch.setattr(nn.LSTM, "forward", cudnn)
    svi, batch, types = svi_on(cuda), batch_on(cuda), {}
    # `torch.autocast` turns itself off where there is no GPU.
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    try:
        found = svi.loss.terms(svi.model, svi.guide, batch)
        for name, guide in svi.guide.unimodal.items():
            types[name] = guide.encoders[name](batch[name]).dtype
    finally:
        torch.set_autocast_enabled("cuda", False)
    assert types == {"speech": torch.float32, "image": torch.bfloat16}
    assert {value.dtype for value in found.values()} == {torch.float32}
