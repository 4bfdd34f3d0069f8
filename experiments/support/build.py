"""Model, guide, objective, optimiser and gaps in the data, of a configuration."""

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyro
import torch
from torch import nn

from pvae_pyro.data.missing import Presence, few_paired, missing_at_random
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.command_line import flag
from pvae_pyro.experiments.support.config import Config
from pvae_pyro.guides import JMVAEGuide, PartitionedGuide, VAEGuide
from pvae_pyro.modality import Modality
from pvae_pyro.models import JMVAE, PVAE, digit_modalities
from pvae_pyro.models.priors import Flow, GaussianMixture, StandardNormal, VampPrior
from pvae_pyro.nn.heads import GaussianHead
from pvae_pyro.svi import SVI

if TYPE_CHECKING:  # it reads sound and pictures, without which models are built
    from pvae_pyro.data.paired import PairedData

# What networks compute in, where torch holds it safe; parameters and distributions are float32.
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


def build(config: Config) -> SVI:
    """Model, guide, objective and optimiser of a configuration, to be trained.

    If several processes train, all of them call it together. Raises RunError as `build_model`.
    """
    model, guide, elbo = build_model(config)
    # β1 = 0.95 is that of the author's other papers' code.
    adam = partial(torch.optim.Adam, lr=config.learning_rate, betas=(0.95, 0.999), fused=True)
    return SVI(model, guide, adam, elbo, PRECISIONS[config.precision])


def build_model(config: Config) -> tuple[nn.Module, nn.Module, PartitionedELBO]:
    """Model, guide and objective of a configuration, which any one process may build alone.

    Raises RunError for a modality that is not known.
    """
    pyro.set_rng_seed(config.seed)
    model, guide, elbo = _networks(config)
    return model.to(config.device), guide.to(config.device), elbo


def num_weights(config: Config) -> int:
    """Weights of model and guide, found without making them. Raises RuntimeError where there would
    be more than any tensor holds, RunError as `build`."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model, guide, _ = _networks(config)
    both = dict.fromkeys((*model.parameters(), *guide.parameters()))
    return sum(parameter.numel() for parameter in both)


def _networks(config: Config) -> tuple[nn.Module, nn.Module, PartitionedELBO]:
    # Without speech there is no longest one.
    frames = {} if config.max_frames is None else {"max_frames": config.max_frames}
    try:
        modalities = digit_modalities(
            config.names,
            spoken=("speech", *config.second_speeches),
            num_cells=config.num_cells,
            speech_scale=config.speech_scale,
            image_scale=config.image_scale,
            duration_scale=config.duration_scale or None,
            speech_encoder=config.speech_encoder,
            image_likelihood=config.image_likelihood,
            learn_scale=config.learn_scale,
            **frames,
        )
    except ValueError as error:
        raise RunError(str(error)) from error
    return _assemble(config, modalities)


def _assemble(
    config: Config, modalities: tuple[Modality, ...]
) -> tuple[nn.Module, nn.Module, PartitionedELBO]:
    """The PVAE, or a baseline of as many latent dimensions, with the same networks."""
    semantic, style = config.semantic_dim, config.style_dim
    incomplete = config.lacks_modalities
    prior = partial(_prior, config)
    if config.model == "pvae":
        elbo = PartitionedELBO(
            alpha=config.alpha,
            beta=config.beta,
            margin=config.margin,
            length_scale=config.length_scale,
            gamma=config.gamma,
            delta=config.delta,
        )
        dims = (semantic, style)
        pvae = PVAE(modalities, *dims, prior)
        both = PartitionedGuide(modalities, *dims, incomplete)
        return _joined(pvae, both.multimodal.heads["z_sem"]), both, elbo
    if config.model == "jmvae":
        # Its second term, α Σ_m KL(q ‖ q_m), is the coherence of one latent.
        elbo = PartitionedELBO(alpha=config.alpha, beta=0.0, shared="z")
        dim = semantic + style * len(modalities)
        jmvae, of_all = JMVAE(modalities, dim, prior), JMVAEGuide(modalities, dim, incomplete)
        return _joined(jmvae, of_all.multimodal.heads["z"]), of_all, elbo
    (modality,) = (m for m in modalities if config.model == f"vae-{m.name}")
    dim = semantic + style
    vae, guide = JMVAE([modality], dim, prior), VAEGuide(modality, dim)
    return _joined(vae, guide.heads["z"]), guide, PartitionedELBO(alpha=0.0, beta=0.0)


def _prior(config: Config, dim: int) -> nn.Module:
    """Of the shared latent. Raises RunError where it cannot be of that many dimensions."""
    kind, num_components = config.prior, config.num_components
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
        assert isinstance(head, GaussianHead)
        model.prior.follow(head)
    return model


def presence(config: Config, data: "PairedData") -> Presence | None:
    """Which training examples have which modalities; None where all have all.

    Those of the unseen classes are left out. Raises RunError where none is left.
    """
    names = config.modelled
    labels = next(iter(data.train.values())).labels
    if unknown := set(config.unseen_classes or ()) - set(data.classes):
        raise RunError(f"--unseen-classes: there is no class {', '.join(sorted(unknown))}")
    left_out = [data.classes.index(label) for label in config.unseen_classes or ()]
    of_seen = np.flatnonzero(~np.isin(labels, left_out))
    found = None
    try:
        if config.missing:
            found = missing_at_random(len(of_seen), names, config.missing, config.seed)
            found = found.complete if config.drop_incomplete else found
        elif config.paired < 1 and len(names) > 1:
            found = few_paired(len(of_seen), names, config.paired, config.seed, config.paired_share)
        elif left_out:
            found = missing_at_random(len(of_seen), names, 0.0, config.seed)
    except ValueError as error:
        raise RunError(f"no training example is left: {error}") from error
    return None if found is None else replace(found, rows=of_seen[found.rows])


def gaps(config: Config) -> list[str]:
    """What of the training partition a run did not see, a sentence each."""
    told = []
    if config.missing:
        dropped = "; examples that lack one are left out" * config.drop_incomplete
        told.append(
            f"training: each modality of each example is missing with probability "
            f"{config.missing:g}{dropped}"
        )
    if config.paired < 1:
        told.append(f"training: {config.paired:.2%} of the pairs are known")
    if config.pairs == "fixed":
        told.append("training: pairs are made once and for all")
    if config.unseen_classes:
        told.append(f"training: without the classes {', '.join(config.unseen_classes)}")
    return told


def check_memory(config: Config) -> None:
    """Refuse a model that memory cannot hold while it is trained and saved, before it is built.

    Raises RunError naming the options that make its size.
    """
    device = torch.device(config.device)
    there, each = None, 16  # bytes of a weight, its gradient and Adam's two moments
    if device.type == "cuda":
        there = torch.cuda.get_device_properties(device).total_memory
    elif device.type == "cpu" and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        each += 3 * 12  # the checkpoint: copies, the file's content, and what it is put together in
    sizes = ", ".join(
        f"{flag(name)} {getattr(config, name)}"
        for name in ("num_cells", "semantic_dim", "style_dim", "num_components")
    )
    try:
        number = num_weights(config)
    except RuntimeError as error:  # more than any tensor holds
        raise RunError(f"the model cannot be built ({error}): {sizes}") from error
    if there is not None and each * number > there:
        raise RunError(
            f"the model has {number:,} weights: to train them takes {each * number / 1e9:,.0f} GB, "
            f"and {device} has {there / 1e9:,.0f}: {sizes}"
        )
