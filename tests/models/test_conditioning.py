"""The arguments of a model's call: which modalities are modelled, and which observed."""

import pytest
from pyro import poutine

from pvae_pyro.models import JMVAE
from tests.support.tiny import tiny_batch, tiny_modalities, tiny_pair


def sites(trace):
    return {n for n, site in trace.nodes.items() if site["type"] == "sample" and n != "examples"}


@pytest.mark.parametrize("model", [JMVAE(tiny_modalities(), 3), tiny_pair()[0]])
def test_names_and_observed(model):
    batch = tiny_batch(4)
    everything = {"speech", "speech_log_frames", "image"}
    assert everything < sites(poutine.trace(model).get_trace(batch))
    trace = poutine.trace(model).get_trace(batch, names=["image"])
    assert not any("speech" in name for name in sites(trace))
    for given, options in ((batch, {"observed": ["image"]}), ({"image": batch["image"]}, {})):
        trace = poutine.trace(model).get_trace(given, **options)
        assert trace.nodes["image"]["is_observed"]
        assert not trace.nodes["speech"]["is_observed"]
    assert not poutine.trace(model).get_trace(batch, observed=()).nodes["image"]["is_observed"]
    assert len(sites(poutine.trace(model).get_trace(names=(), num_examples=7))) == 1
    assert model(num_examples=2)["image"].shape == (2, 1, 28, 28)


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        (["speech", "image"], {"names": ["imag"]}, r"no modality 'imag'.*speech.*image"),
        (["speech", "image"], {"observed": ["imag"]}, "no modality 'imag'"),
        (["speech"], {"observed": ["image"]}, r"not in the batch: \['image'\]"),
        ([], {}, "at least one modality"),
    ],
)
def test_unknown_and_missing_modalities_are_refused(names, arguments, message):
    model, batch = JMVAE(tiny_modalities(), 3), tiny_batch(4)
    with pytest.raises(ValueError, match=message):
        model({name: batch[name] for name in names}, **arguments)
