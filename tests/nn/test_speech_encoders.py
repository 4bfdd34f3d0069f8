"""The encoders in place of the LSTM: what padding, other rows and modes must not change."""

import math
from dataclasses import replace

import pytest
import torch

from pvae_pyro.batch import Observation
from pvae_pyro.models.modalities import SPEECH_ENCODERS

MELS = 6
OTHERS = [name for name in SPEECH_ENCODERS if name != "lstm"]


@pytest.fixture(params=OTHERS)
def encoder(request):
    return SPEECH_ENCODERS[request.param](MELS, 16)


def observation(lengths=(7, 1, 40, 12, 2), padding=0, filler=0.0):
    lengths = torch.tensor(lengths)
    longest = int(lengths.max()) + padding
    generator = torch.Generator().manual_seed(4)
    value = torch.full((len(lengths), longest, MELS), filler)
    for row, length in enumerate(lengths.tolist()):
        value[row, :length] = torch.randn(length, MELS, generator=generator)
    return Observation(value, lengths)


@pytest.mark.parametrize("filler", [0.0, -3.0, math.nan])
@pytest.mark.parametrize("padding", [0, 9])
def test_padding_changes_nothing(encoder, padding, filler):
    found = []
    for given in (observation(), observation(padding=padding, filler=filler)):
        encoder.zero_grad()
        value = given.value.requires_grad_()
        features = encoder(replace(given, value=value))
        assert features.shape == (5, encoder.out_features) == (5, 16)
        features.square().sum().backward()
        used = torch.arange(value.shape[1]) < given.lengths[:, None]
        assert (value.grad[~used] == 0).all()
        assert (value.grad[used].abs().sum(-1) > 0).all()  # of every frame in use
        gradients = {name: p.grad.clone() for name, p in encoder.named_parameters()}
        found.append((features, value.grad[used], gradients))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    for name, gradient in found[0][2].items():
        assert torch.equal(gradient, found[1][2][name]), name
        assert gradient.abs().sum() > 0, name


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", OTHERS)
def test_other_rows_and_their_order_change_nothing(name):
    encoder, given = SPEECH_ENCODERS[name](MELS, 16), observation()
    features = encoder(given)
    order = torch.tensor([3, 0, 4, 2, 1])
    permuted = Observation(given.value[order], given.lengths[order])
    torch.testing.assert_close(encoder(permuted), features[order])
    for row, length in enumerate(given.lengths.tolist()):
        alone = Observation(given.value[row : row + 1, :length], given.lengths[row : row + 1])
        torch.testing.assert_close(encoder(alone)[0], features[row])


def test_the_order_of_frames_counts(encoder):
    given = observation()
    turned = replace(given, value=given.value.clone())
    turned.value[2] = given.value[2].flip(0)
    changed = (encoder(turned) - encoder(given)).abs().amax(1) > 1e-4
    assert changed.tolist() == [False, False, True, False, False]


def test_evaluation_frozen_and_with_gradients_is_training(encoder):
    """Torch takes other ways through attention in evaluation; all come to the same."""
    given = observation()
    trained = encoder(given)
    encoder.eval()
    torch.testing.assert_close(encoder(given), trained)
    with torch.no_grad():
        torch.testing.assert_close(encoder(given), trained)
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    value = given.value.requires_grad_()
    features = encoder(replace(given, value=value))
    torch.testing.assert_close(features, trained)
    features.sum().backward()
    assert value.grad[2].abs().sum() > 0


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (None, "needs the lengths"),
        (torch.tensor([3, 0]), "between 1 and 5"),
        (torch.tensor([6, 1]), "between 1 and 5"),
    ],
)
def test_lengths_are_required_and_checked(encoder, lengths, message):
    with pytest.raises(ValueError, match=message):
        encoder(Observation(torch.zeros(2, 5, MELS), lengths))
