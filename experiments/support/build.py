"""Model, guide, objective, optimiser and gaps in the data, of a configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyro
import torch
from torch import nn

from pvae_pyro.data.missing import Presence, few_paired, missing_at_random
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.experiments.support.errors import RunError
from pvae_pyro.experiments.support.settings import PRECISIONS
from pvae_pyro.guides import JMVAEGuide, PartitionedGuide, VAEGuide
from pvae_pyro.modality import Modality
from pvae_pyro.models import JMVAE, PVAE, digit_modalities
from pvae_pyro.models.priors import Flow, GaussianMixture, StandardNormal, VampPrior
from pvae_pyro.svi import SVI

if TYPE_CHECKING:  # it reads sound and pictures, and models are built without
    from pvae_pyro.data.paired import PairedData


def build(config: Mapping[str, Any]) -> SVI:
    """Model, guide, objective and optimiser of a configuration, to be trained.

    Where several processes train, all of them call it together. Raises RunError as `build_model`.
    """
    model, guide, elbo = build_model(config)
    # β1 = 0.95 is that of the author's other papers' code.
    adam = partial(torch.optim.Adam, lr=config["learning_rate"], betas=(0.95, 0.999), fused=True)
    return SVI(model, guide, adam, elbo, PRECISIONS[config["precision"]])


def build_model(config: Mapping[str, Any]) -> tuple[nn.Module, nn.Module, PartitionedELBO]:
    """Model, guide and objective of a configuration, which any one process may build alone.

    Raises RunError for a modality that is not known.
    """
    pyro.set_rng_seed(config["seed"])
    # Without speech there is no longest one.
    frames = {"max_frames": config["max_frames"]} if "max_frames" in config else {}
    try:
        modalities = digit_modalities(
            config["modalities"],
            num_cells=config["num_cells"],
            speech_scale=config["speech_scale"],
            image_scale=config["image_scale"],
            duration_scale=config["duration_scale"] or None,
            speech_encoder=config["speech_encoder"],
            image_likelihood=config["image_likelihood"],
            learn_scale=config["learn_scale"],
            **frames,
        )
    except ValueError as error:
        raise RunError(str(error)) from error
    model, guide, elbo = _assemble(config, modalities)
    return model.to(config["device"]), guide.to(config["device"]), elbo


def _assemble(
    config: Mapping[str, Any], modalities: tuple[Modality, ...]
) -> tuple[nn.Module, nn.Module, PartitionedELBO]:
    """The PVAE, or a baseline of as many latent dimensions, with the same networks."""
    semantic, style = config["semantic_dim"], config["style_dim"]
    incomplete = lacks_modalities(config)
    prior = partial(_prior, config)
    if config["model"] == "pvae":
        elbo = PartitionedELBO(
            alpha=config["alpha"],
            beta=config["beta"],
            margin=config["margin"],
            length_scale=config["length_scale"],
            gamma=config["gamma"],
            delta=config["delta"],
        )
        dims = (semantic, style)
        pvae = PVAE(modalities, *dims, prior)
        both = PartitionedGuide(modalities, *dims, incomplete)
        return _joined(pvae, both.multimodal.heads["z_sem"]), both, elbo
    if config["model"] == "jmvae":
        # Its second term, α Σ_m KL(q ‖ q_m), is the coherence of one latent.
        elbo = PartitionedELBO(alpha=config["alpha"], beta=0.0, shared="z")
        dim = semantic + style * len(modalities)
        jmvae, of_all = JMVAE(modalities, dim, prior), JMVAEGuide(modalities, dim, incomplete)
        return _joined(jmvae, of_all.multimodal.heads["z"]), of_all, elbo
    (modality,) = (m for m in modalities if config["model"] == f"vae-{m.name}")
    dim = semantic + style
    vae, guide = JMVAE([modality], dim, prior), VAEGuide(modality, dim)
    return _joined(vae, guide.heads["z"]), guide, PartitionedELBO(alpha=0.0, beta=0.0)


def _prior(config: Mapping[str, Any], dim: int) -> nn.Module:
    """Of the shared latent. Raises RunError where it cannot be of that many dimensions."""
    kind, num_components = config["prior"], config["num_components"]
    try:
        if kind == "mixture":
            return GaussianMixture(dim, num_components)
        if kind == "vamp":
            return VampPrior(dim, num_components)
        return {"normal": StandardNormal, "flow": Flow}[kind](dim)
    except ValueError as error:
        raise RunError(f"--prior {kind}: {error}") from error


def _joined(model: PVAE | JMVAE, head: nn.Module) -> nn.Module:
    """The model, its prior following the guide's head of its latent if it is made to."""
    if isinstance(model.prior, VampPrior):
        model.prior.follow(head)
    return model


def lacks_modalities(config: Mapping[str, Any]) -> bool:
    """Whether examples that a model is trained on lack any."""
    return config["paired"] < 1 or (config["missing"] > 0 and not config["drop_incomplete"])


def presence(
    config: Mapping[str, Any], data: "PairedData", names: Sequence[str]
) -> Presence | None:
    """Which training examples have which modalities; None where all have all.

    Those of the unseen classes are left out. Raises RunError where none is left.
    """
    labels = next(iter(data.train.values())).labels
    if unknown := set(config["unseen_classes"] or ()) - set(data.classes):
        raise RunError(f"--unseen-classes: there is no class {', '.join(sorted(unknown))}")
    left_out = [data.classes.index(label) for label in config["unseen_classes"] or ()]
    of_seen = np.flatnonzero(~np.isin(labels, left_out))
    found = None
    try:
        if config["missing"]:
            found = missing_at_random(len(of_seen), names, config["missing"], config["seed"])
            found = found.complete if config["drop_incomplete"] else found
        elif config["paired"] < 1 and len(names) > 1:
            of = (len(of_seen), names, config["paired"], config["seed"])
            found = few_paired(*of, config["paired_share"])
        elif left_out:
            found = missing_at_random(len(of_seen), names, 0.0, config["seed"])
    except ValueError as error:
        raise RunError(f"no training example is left: {error}") from error
    return None if found is None else replace(found, rows=of_seen[found.rows])


def gaps(config: Mapping[str, Any]) -> list[str]:
    """What of the training partition a run did not see, a sentence each."""
    told = []
    if config["missing"]:
        dropped = "; examples that lack one are left out" * config["drop_incomplete"]
        told.append(
            f"training: each modality of each example is missing with probability "
            f"{config['missing']:g}{dropped}"
        )
    if config["paired"] < 1:
        told.append(f"training: {config['paired']:.2%} of the pairs are known")
    if config["pairs"] == "fixed":
        told.append("training: pairs are made once and for all")
    if config["unseen_classes"]:
        told.append(f"training: without the classes {', '.join(config['unseen_classes'])}")
    return told
