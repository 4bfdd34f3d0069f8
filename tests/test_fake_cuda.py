"""The objective on CUDA tensors, without a GPU: torch's fake tensors know shapes and devices, and
an operation that mixes devices is an error. Its gradient wants a driver."""

from functools import partial

import pyro
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from guides import PartitionedGuide
from models import PVAE, digit_modalities
from models.priors import Flow, GaussianMixture, StandardNormal, VampPrior
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.modality import Observation
from pvae_pyro.nn.recurrent import RaggedLSTM
from pvae_pyro.svi import SVI
from tests.tiny import MAX_FRAMES, NUM_MELS, tiny_batch, tiny_pair


def recurrence(lstm, x, packing, want_states):
    """As `RaggedLSTM._run`, in shape and device: cuDNN's needs a driver."""
    data = packing.repeat(x) if x.dim() == 2 else packing.pack(x)
    states = data @ lstm.weight_ih_l0[: lstm.hidden_size].t() + lstm.bias_ih_l0[: lstm.hidden_size]
    states = states * lstm.weight_hh_l0.mean() + lstm.bias_hh_l0.mean()
    return states, states[packing.last.to(x.device)]


@pytest.fixture
def cuda(monkeypatch):
    """Fake tensors, on a device that is not there."""
    monkeypatch.setattr(RaggedLSTM, "_run", recurrence)
    monkeypatch.setattr(RaggedLSTM, "flatten_parameters", lambda lstm: None)
    with FakeTensorMode(allow_non_fake_inputs=True), pyro.validation_enabled(False):
        yield torch.device("cuda")


BATCH = tiny_batch()
PACKING = BATCH["speech"].packing  # of real lengths, which decide shapes


def terms(device, pair=tiny_pair, **weights):
    with device:  # made there: fake tensors cannot be moved by `Module.to`
        model, guide = pair()
    adam = partial(torch.optim.Adam, lr=1e-3)
    svi = SVI(model, guide, adam, PartitionedELBO(**weights))
    batch = {
        name: Observation(torch.empty_like(x.value, device=device), x.lengths)
        for name, x in BATCH.items()
    }
    vars(batch["speech"])["packing"] = PACKING
    return svi.terms(batch)


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
def test_so_they_do_with_other_networks(cuda, encoder, family) -> None:
    def pair():
        modalities = digit_modalities(
            num_mels=NUM_MELS,
            num_cells=8,
            max_frames=MAX_FRAMES,
            speech_encoder=encoder,
            image_likelihood=family,
            learn_scale=True,
        )
        return PVAE(modalities, 3, 2), PartitionedGuide(modalities, 3, 2)

    found = terms(cuda, pair)
    assert {value.device.type for value in found.values()} == {"cuda"}


def test_a_tensor_on_the_wrong_device_is_found(cuda, monkeypatch) -> None:
    """The test above can fail."""
    monkeypatch.setattr(
        "pvae_pyro.contrastive.rbf_kernel", lambda a, b, scale: (a - b).sum(-1) + torch.ones(5)
    )
    with pytest.raises(RuntimeError, match="device"):
        terms(cuda)
