"""A run folder, and the model, guide, optimiser and data its configuration stands for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from torch import nn

from experiments.corpora import load_columns
from experiments.options import OBJECTIVES, PRECISIONS, VAE, config_of, make_parser, wrong_options
from guides import JMVAEGuide, PartitionedGuide, VAEGuide
from models import JMVAE, PVAE, digit_modalities
from models.priors import Flow, GaussianMixture, StandardNormal, VampPrior
from pvae_pyro.checked_json import misfit, read_json
from pvae_pyro.checkpoint import CheckpointError, load_weights
from pvae_pyro.data.cache import data_root
from pvae_pyro.data.hold_out import hold_out
from pvae_pyro.data.paired import PairedData, join
from pvae_pyro.data.presence import Presence, few_paired, missing_at_random
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.modality import Modality
from pvae_pyro.svi import SVI
from pvae_pyro.train import CHECKPOINT

CONFIG = "config.json"
# Of a configuration, what is no option: found out when the run was begun.
_FOUND = {
    "corpus?": str,
    "stand_in?": bool,
    "data_digest?": str,
    "max_frames?": int,
    "sample_rate_of_features?": int,
    "sample_rates?": {str: int},
    "threads?": (int, type(None)),
}
_MOST_UNITS = 1 << 20  # of a layer
_MOST_FRAMES = 1_000_000  # nearly three hours


class RunError(Exception):
    """A run folder cannot be used as asked; the message says why."""


def build(config: Mapping[str, Any]) -> SVI:
    """Model, guide, objective and optimiser of a configuration.

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
    # β1 = 0.95 is that of the author's other papers' code.
    adam = partial(torch.optim.Adam, lr=config["learning_rate"], betas=(0.95, 0.999), fused=True)
    autocast = PRECISIONS[config["precision"]]
    return SVI(model.to(config["device"]), guide.to(config["device"]), adam, elbo, autocast)


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


def presence(config: Mapping[str, Any], data: PairedData, names: Sequence[str]) -> Presence | None:
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
        elif config["paired"] < 1:
            of = (len(of_seen), names, config["paired"], config["seed"])
            found = few_paired(*of, config["paired_share"])
        elif left_out:
            found = missing_at_random(len(of_seen), names, 0.0, config["seed"])
    except ValueError as error:
        raise RunError(f"no training example is left: {error}") from error
    return None if found is None else replace(found, rows=of_seen[found.rows])


def load_data(config: Mapping[str, Any], root: Path) -> PairedData:
    """The data of a configuration. Raises CorpusError as `join` and the columns do, and RunError
    for a modality that is not known or has no data."""
    try:
        columns = load_columns(config, root)
    except ValueError as error:
        raise RunError(str(error)) from error
    data = join(columns, require_corpus=config["require_corpus"])
    return hold_out(data, config["hold_out"]) if config["hold_out"] else data


def check_data(config: Mapping[str, Any], data: PairedData, folder: str | Path) -> dict[str, Any]:
    """What a configuration says of the data of its run; where it says so already, the same.

    Raises RunError when a run was begun on anything else.
    """
    found = {"corpus": data.corpus, "stand_in": data.stand_in, "data_digest": data.digest()}
    for name, value in found.items():
        if config.get(name, value) != value:
            raise RunError(
                f"{folder} was begun on other data: {name} {config[name]}, now {value}; have "
                "files, a manifest, or $PVAE_DATA (--data) changed?"
            )
    return found


def load_run_data(folder: str | Path, root: Path | None = None) -> PairedData:
    """The data that a run was trained and scored on; root is as of --data.

    Raises RunError when it is no longer the same, CorpusError when it is not there.
    """
    config = read_config(folder)
    data = load_data(config, root or data_root())
    check_data(config, data, folder)
    return data


def load_run(
    folder: str | Path, device: str = "cpu", weights: str = CHECKPOINT
) -> tuple[nn.Module, nn.Module]:
    """The trained model and guide of a run.

    weights: the file of the folder that holds them; `pvae_pyro.best.BEST` is another.

    Raises RunError without a readable config.json, CheckpointError without its checkpoint.
    """
    config = {**read_config(folder), "device": device}
    check_size(config, Path(folder), weights)
    svi = build(config)
    load_weights(Path(folder) / weights, svi.model, svi.guide)
    return svi.model.eval(), svi.guide.eval()


def check_size(config: Mapping[str, Any], folder: Path, weights: str = CHECKPOINT) -> None:
    """Refuse a configuration of more weights than its checkpoint holds, before it is built: a
    number in a file of someone else's may ask for any memory. Raises RunError, CheckpointError."""
    try:
        size = (folder / weights).stat().st_size
    except OSError as error:
        raise CheckpointError(f"there is no checkpoint {folder / weights}") from error
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            svi = build({**config, "device": "meta"})
        number = sum(parameter.numel() for parameter in svi.parameters())
    except (RuntimeError, RunError) as error:  # RuntimeError: more than any tensor holds
        raise RunError(f"{folder}: {CONFIG} asks for what cannot be built ({error})") from error
    if 4 * number > size:
        raise RunError(f"{folder}: {CONFIG} is of {number:,} weights, more than {weights} holds")


def read_config(folder: str | Path) -> dict[str, Any]:
    """A run's resolved configuration. Raises RunError, saying why it cannot be read.

    A run of an earlier version lacks the options that came since: it had their defaults, and the
    paper's objective. What is no value of an option is refused: nothing is built of it.
    """
    try:
        config = read_json(Path(folder) / CONFIG)
    except (OSError, ValueError) as error:
        raise RunError(f"{folder} is no run that can be read: {error}") from error
    if "num_cells" not in config:
        raise RunError(f"{folder} is no run that can be read: {CONFIG} is not a configuration")
    config = with_defaults(config)
    if wrong := config_problem(config):
        raise RunError(f"{folder} is no run that can be read: {CONFIG}: {wrong}")
    return config


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, of an earlier version perhaps, with the options that came since."""
    earlier = {"objective": "paper", **OBJECTIVES["paper"]}
    return {**config_of(make_parser(None).parse_args([])), **earlier, **config}


def config_problem(config: Mapping[str, Any]) -> str | None:
    """What in a configuration with defaults no run can have had, in words; None is nothing."""
    if wrong := [*wrong_options(make_parser(None), config)]:
        return wrong[0]
    if wrong := misfit(config, _FOUND, "configuration"):
        return wrong
    model = config["model"]
    if model.startswith(VAE) and model.removeprefix(VAE) not in config["modalities"]:
        return f"model {model} of modalities {config['modalities']}"
    for size in ("num_cells", "semantic_dim", "style_dim", "num_components"):
        if config[size] > _MOST_UNITS:
            return f"{size} {config[size]}"
    if not 1 <= config.get("max_frames", 1) <= _MOST_FRAMES:
        return f"max_frames {config['max_frames']}"
    rates = {
        "sample_rate_of_features": config.get("sample_rate_of_features", 4000),
        **config.get("sample_rates", {}),
    }
    if wrong := [name for name, rate in rates.items() if not 4000 <= rate <= 192_000]:
        return f"{ascii(wrong[0])[:60]} at {rates[wrong[0]]} Hz"
    return None
