"""Who infers what from which modality."""

import pytest
import torch

from pvae_pyro.batch import Observation
from pvae_pyro.guides import JMVAEGuide, PartitionedGuide, VAEGuide
from tests.support.linear_gaussian import MODALITIES, make_batch

A, B = MODALITIES


def other(batch, name):
    """The batch with another observation of that modality."""
    return {**batch, name: Observation(batch[name].value + 1)}


def locs(guide, batch):
    """Of each site, by the guide's own layers."""
    features = torch.cat([encoder(batch[name]) for name, encoder in guide.encoders.items()], -1)
    return {site: head(features).mean for site, head in guide.heads.items()}


def test_the_vae_is_its_own_unimodal_guide():
    guide = VAEGuide(A, 4)
    assert dict(guide.unimodal) == {"a": guide}
    names = [name for name, _ in guide.named_parameters()]
    assert len(names) == 4  # weight and bias of loc and of log-scale, and none of them twice
    z = guide(make_batch(6))["z"]
    assert z.shape == (6, 4)


@pytest.mark.parametrize(
    ("guide", "shared", "own"),
    [(JMVAEGuide(MODALITIES, 4), "z", 0), (PartitionedGuide(MODALITIES, 3, 2), "z_sem", 2)],
)
def test_sites_and_what_they_look_at(guide, shared, own):
    batch = make_batch(6)
    styles = [f"z_style_{name}" for name in ("a", "b")] if own else []
    assert list(guide(batch)) == [shared, *styles]
    before = locs(guide.multimodal, batch)
    for name in ("a", "b"):
        # The multimodal guide looks at everything, and in every latent.
        changed = locs(guide.multimodal, other(batch, name))
        for site, loc in before.items():
            assert (changed[site] - loc).abs().min() > 0, site
        sites = [shared, f"z_style_{name}"] if own else [shared]
        assert list(guide({name: batch[name]})) == sites
        assert list(guide.unimodal[name](batch)) == sites


def test_a_unimodal_guide_looks_at_its_own_modality_alone():
    guide = JMVAEGuide(MODALITIES, 4).unimodal["a"]
    batch = make_batch()
    found = []
    for given in (batch, other(batch, "b"), {"a": batch["a"]}, other(batch, "a")):
        torch.manual_seed(2)
        found.append(guide(given)["z"])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[3])


def test_joint_and_unimodal_guides_share_no_parameters():
    guide = JMVAEGuide(MODALITIES, 4)
    groups = [guide.multimodal, *guide.unimodal.values()]
    ids = [id(parameter) for group in groups for parameter in group.parameters()]
    assert len(ids) == len(set(ids)) == len(list(guide.parameters())) == 12


def test_a_batch_goes_to_the_guide_that_fits_it():
    guide = JMVAEGuide(MODALITIES, 4)
    batch = make_batch()
    for given, chosen in (
        (batch, guide.multimodal),
        ({**batch, "c": batch["a"]}, guide.multimodal),  # with an unknown modality besides
        ({"b": batch["b"]}, guide.unimodal["b"]),
    ):
        torch.manual_seed(2)
        z = guide(given)["z"]
        torch.manual_seed(2)
        assert torch.equal(z, chosen(given)["z"])
    for unknown in ({}, {"a": batch["a"], "c": batch["a"]}):
        with pytest.raises(ValueError, match="no guide infers from"):
            guide(unknown)
