"""Networks of pictures: larger pictures have more layers, and MNIST's networks are unchanged."""

import hashlib

import pytest
import torch

from pvae_pyro.batch import Observation
from pvae_pyro.guides import PartitionedGuide
from pvae_pyro.models import PVAE, digit_modalities
from pvae_pyro.models.likelihoods import FAMILIES, ImageLikelihood
from pvae_pyro.nn.classifiers import PictureJudge
from pvae_pyro.nn.decoders import ImageDecoder
from pvae_pyro.nn.encoders import ImageEncoder
from pvae_pyro.nn.picture_layers import MNIST, num_halvings, sides, widths

SHAPES = [(3, 28, 28), (1, 40, 40), (3, 57, 57), (1, 64, 64), (3, 101, 101), (3, 128, 128)]


def digest(*modules):
    sha = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            sha.update(name.encode() + tensor.numpy().tobytes())
    return sha.hexdigest()[:16]


@torch.no_grad()
def test_networks_of_mnist_are_those_of_commit_9a13802():
    """Names of parameters, draws of the initialisation, and outputs."""
    torch.manual_seed(0)
    encoder, decoder, judge = ImageEncoder(), ImageDecoder(6), PictureJudge(MNIST, 3).eval()
    assert digest(encoder) == "5c0f2eb726c52b80"
    assert digest(decoder) == "17941354d30af096"
    assert digest(judge) == "8b282f7f7c358241"
    x = Observation(torch.linspace(0, 1, 2 * 784).reshape(2, 1, 28, 28))
    assert encoder(x).sum(1).tolist() == pytest.approx([6.369086, 12.209564], rel=1e-4)
    made = decoder(torch.linspace(-1, 1, 12).reshape(2, 6))
    expected = [-0.0135459, -0.0407230, -0.0789692, -0.0344383]
    assert made[1, 0, 13, 10:14].tolist() == pytest.approx(expected, rel=1e-3)
    assert judge(x)[1].tolist() == pytest.approx([0.377753, -0.142689, 0.335899], rel=1e-3)
    torch.manual_seed(3)
    varied = judge.varied(x).value[1, 0, 13, 10:14].tolist()
    assert varied == pytest.approx([0.513355, 0.522470, 0.504679, 0.500727], rel=1e-4)


def test_a_model_of_mnist_begins_with_the_weights_of_commit_9a13802():
    torch.manual_seed(0)
    modalities = digit_modalities(num_mels=6, num_cells=8)
    model, guide = PVAE(modalities, 3, 2), PartitionedGuide(modalities, 3, 2)
    assert (digest(model), digest(guide)) == ("bf5e0613638e41fe", "229a83af91794e99")


@pytest.mark.parametrize("shape", SHAPES)
def test_networks_follow_the_shape(shape):
    encoder, decoder = ImageEncoder(32, shape=shape), ImageDecoder(5, 32, shape=shape)
    pictures = torch.rand(2, *shape)
    assert encoder(Observation(pictures)).shape == (2, 32)
    made = decoder(torch.randn(4, 2, 5))
    assert made.shape == (4, 2, *shape)
    made.square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in decoder.parameters())
    assert min(sides(shape)[-1]) >= 4
    assert max(sides(shape)[-1]) <= 8


def test_each_halving_of_a_larger_picture_is_a_layer():
    assert [num_halvings((1, n, n)) for n in (28, 32, 33, 64, 65, 128)] == [2, 2, 3, 3, 4, 4]
    assert widths(MNIST) == (8, 16)
    assert widths((3, 128, 128)) == (16, 32, 64, 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_likelihood_sums_over_all_channels_and_pixels(family):
    shape = (3, 40, 40)
    likelihood = ImageLikelihood(4, 0.5, family, shape=shape)
    pixels = likelihood._pixels(likelihood.decoder(torch.randn(2, 4)))
    assert (pixels.batch_shape, pixels.event_shape) == ((2,), shape)


@torch.no_grad()
def test_a_judge_of_large_pictures_sees_blur_as_wide_as_of_small_ones():
    """A step from black to white, blurred: how wide the grey between is, in parts of a side."""
    widest = []
    for side in (28, 112):
        judge = PictureJudge((3, side, side), 4).eval()
        edge = torch.zeros(40, 3, side, side)
        edge[..., side // 2 :] = 1
        torch.manual_seed(0)
        varied = judge.varied(Observation(edge)).value
        assert judge(Observation(varied)).shape == (40, 4)
        slope = varied.mean((1, 2)).diff(dim=1).abs().amax(1) * side
        widest.append(1 / slope.median())
    assert widest[1] == pytest.approx(widest[0], rel=0.5)
