"""The model, guide, objective and optimiser of a configuration, and what its data lack."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyro
import torch
from torch import nn

from pvae_pyro.data.missing import Presence, few_paired, missing_at_random, of_pairs
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.config import Config
from pvae_pyro.guides import JMVAEGuide, PartitionedGuide, VAEGuide
from pvae_pyro.modality import Modality
from pvae_pyro.models import JMVAE, PVAE, digit_modalities
from pvae_pyro.models.priors import Flow, GaussianMixture, StandardNormal, VampPrior
from pvae_pyro.nn.choices import PriorName
from pvae_pyro.nn.heads import GaussianHead
from pvae_pyro.nn.picture_layers import MNIST
from pvae_pyro.svi import SVI

if TYPE_CHECKING:  # models are also built where no library reads sound and pictures
    from pvae_pyro.data.paired import PairedData

# The type that torch.autocast lets networks compute in; parameters and distributions are float32.
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


def build(config: Config) -> SVI:
    """Model, guide, objective and optimiser of a configuration, ready to be trained.

    If several processes train, all of them must call it together. Raises RunError.
    """
    model, guide, elbo = build_model(config)
    # β1 = 0.95 is from the code of the author's other papers.
    adam = partial(torch.optim.Adam, lr=config.learning_rate, betas=(0.95, 0.999), fused=True)
    precision = PRECISIONS[config.precision]
    return SVI(model, guide, adam, elbo, precision, config.clip_norm or None)


def build_model(config: Config) -> tuple[nn.Module, nn.Module, PartitionedELBO]:
    """Model, guide and objective of a configuration; one process may build them alone.

    Raises RunError for an unknown modality.
    """
    pyro.set_rng_seed(config.seed)
    model, guide, elbo = _networks(config)
    return model.to(config.device), guide.to(config.device), elbo


def num_weights(config: Config) -> int:
    """Count the weights of model and guide without allocating them.

    Raises RuntimeError if they exceed what a tensor can hold, RunError as `build_model`.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model, guide, _ = _networks(config)
    both = dict.fromkeys((*model.parameters(), *guide.parameters()))
    return sum(parameter.numel() for parameter in both)


def _networks(config: Config) -> tuple[nn.Module, nn.Module, PartitionedELBO]:
    # Without speech it is None.
    frames = {} if config.max_frames is None else {"max_frames": config.max_frames}
    try:
        modalities = digit_modalities(
            config.names,
            spoken=dict.fromkeys(("speech", *config.second_speeches, *(config.sample_rates or ()))),
            num_cells=config.num_cells,
            speech_scale=config.speech_scale,
            image_scale=config.image_scale,
            duration_scale=config.duration_scale or None,
            speech_encoder=config.speech_encoder,
            image_likelihood=config.image_likelihood,
            learn_scale=config.learn_scale,
            image_shape=config.image_shape or MNIST,  # runs of earlier versions have none
            **frames,
        )
    except ValueError as error:
        raise RunError(str(error)) from error
    return _assemble(config, modalities)


def _assemble(
    config: Config, modalities: tuple[Modality, ...]
) -> tuple[nn.Module, nn.Module, PartitionedELBO]:
    """The PVAE, or a baseline with as many latent dimensions and the same networks."""
    semantic, style = config.semantic_dim, config.style_dim
    prior = partial(_prior, config)
    if config.model == "pvae":
        elbo = PartitionedELBO(
            alpha=config.alpha,
            beta=config.beta,
            contrast=config.contrast,
            margin=config.margin,
            length_scale=config.length_scale,
            gamma=config.gamma,
            delta=config.delta,
            epsilon=config.epsilon,
        )
        dims = (semantic, style)
        pvae = PVAE(modalities, *dims, prior)
        both = PartitionedGuide(modalities, *dims)
        return _with_its_head(pvae, both.multimodal.heads["z_sem"]), both, elbo
    if config.model == "jmvae":
        # Its second term, α Σ_m KL(q ‖ q_m), is the coherence of one latent.
        elbo = PartitionedELBO(alpha=config.alpha, beta=0.0, shared="z")
        dim = semantic + style * len(modalities)
        jmvae, of_all = JMVAE(modalities, dim, prior), JMVAEGuide(modalities, dim)
        return _with_its_head(jmvae, of_all.multimodal.heads["z"]), of_all, elbo
    (modality,) = (m for m in modalities if config.model == f"vae-{m.name}")
    dim = semantic + style
    vae, guide = JMVAE([modality], dim, prior), VAEGuide(modality, dim)
    return _with_its_head(vae, guide.heads["z"]), guide, PartitionedELBO(alpha=0.0, beta=0.0)


def _prior(config: Config, dim: int) -> nn.Module:
    """The prior of the shared latent. Raises RunError if it needs more dimensions."""
    priors: dict[PriorName, Callable[[], nn.Module]] = {
        "normal": partial(StandardNormal, dim),
        "mixture": partial(GaussianMixture, dim, config.num_components),
        "vamp": partial(VampPrior, dim, config.num_components),
        "flow": partial(Flow, dim),
    }
    if config.prior not in priors:
        raise RunError(f"--prior {config.prior} is a choice, but no prior has that name (build.py)")
    try:
        return priors[config.prior]()
    except ValueError as error:
        raise RunError(f"--prior {config.prior}: {error}") from error


def _with_its_head(model: PVAE | JMVAE, head: nn.Module) -> nn.Module:
    """The model; a VampPrior needs the guide's head of its latent."""
    if isinstance(model.prior, VampPrior):
        assert isinstance(head, GaussianHead)
        model.prior.follow(head)
    return model


def presence(config: Config, data: "PairedData") -> Presence | None:
    """Which training examples have which modalities; None if every example has all.

    Examples of --unseen-classes are left out, and so are known pairs without a modality of the
    model. Raises RunError if none is left.
    """
    names = config.modelled
    labels = data.labels_of_tuples("train")
    if unknown := set(config.unseen_classes or ()) - set(data.classes):
        there = "" if data.classes else ": the data have no labels"
        raise RunError(f"--unseen-classes: no class {', '.join(sorted(unknown))}{there}")
    left_out = [data.classes.index(label) for label in config.unseen_classes or ()]
    of_seen = np.flatnonzero(~np.isin(labels, left_out))
    found = None
    try:
        if config.missing:
            found = missing_at_random(len(of_seen), names, config.missing, config.seed)
        elif config.paired < 1 and len(names) > 1:
            share = 0.0 if config.drop_incomplete else config.paired_share
            found = few_paired(len(of_seen), names, config.paired, config.seed, share)
        elif left_out:
            found = missing_at_random(len(of_seen), names, 0.0, config.seed)
        found = None if found is None else replace(found, rows=of_seen[found.rows])
        if data.pairs:
            found = of_pairs({name: data.pairs["train"][name] for name in names}, found)
        if found is not None and config.drop_incomplete:
            found = found.complete
    except ValueError as error:
        raise RunError(f"no training example is left: {error}") from error
    return found


def gaps(config: Config) -> list[str]:
    """Sentences about what the training partition lacks."""
    remarks = []
    dropped = "; examples that lack a modality are left out" * config.drop_incomplete
    if config.missing:
        remarks.append(
            f"training: each modality of each example is missing with probability "
            f"{config.missing:g}{dropped}"
        )
    if config.paired < 1:
        remarks.append(f"training: {config.paired:.2%} of the pairs are known{dropped}")
    if config.has_known_pairs:
        if config.drop_incomplete and not config.missing:
            remarks.append("training: rows that lack a modality are left out")
    elif config.pairs == "fixed":
        remarks.append("training: each example keeps the pair of the first epoch")
    if config.unseen_classes:
        remarks.append(f"training: without the classes {', '.join(config.unseen_classes)}")
    return remarks
