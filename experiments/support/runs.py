"""A run folder, and the model, guide, optimiser and data its configuration stands for."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pvae_pyro.data.cache import data_root
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.hold_out import hold_out
from pvae_pyro.data.paired import PairedData, join
from pvae_pyro.experiments.support.build import build_model
from pvae_pyro.experiments.support.data import load_columns, may_move, told_by
from pvae_pyro.experiments.support.errors import RunError
from pvae_pyro.experiments.support.given import wrong_options
from pvae_pyro.experiments.support.options import config_of, make_parser
from pvae_pyro.experiments.support.settings import MAY_CHANGE, OBJECTIVES, PLACES, VAE
from pvae_pyro.io.checked_json import misfit, parse_object, read_json
from pvae_pyro.training.checkpoint import CheckpointError, load_extra, load_weights
from pvae_pyro.training.loop import CHECKPOINT

CONFIG = "config.json"
OF_PICTURES = "image.framing"  # how training pictures are, there too
OF_CHECKPOINT = "config"  # what a checkpoint keeps of it, among its extra tensors
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
_MOST_FRAMES = 1_000_000  # nearly three hours


def load_data(config: Mapping[str, Any], root: Path) -> PairedData:
    """The data of a configuration. Raises CorpusError as `join` and the columns do, and RunError
    for a modality that is not known or has no data."""
    try:
        columns = load_columns(config, root)
    except ValueError as error:
        raise RunError(str(error)) from error
    except CorpusError as error:
        if "data_digest" not in config:
            raise
        told = ", ".join(told_by(config))
        raise CorpusError(
            f"{error}; if the data of this run have moved, say where they are: {told}"
        ) from error
    data = join(columns, require_corpus=config["require_corpus"])
    return hold_out(data, config["hold_out"]) if config["hold_out"] else data


def check_data(config: Mapping[str, Any], data: PairedData, folder: str | Path) -> dict[str, Any]:
    """What a configuration says of the data of its run; where it says so already, the same.

    Raises RunError when a run was begun on anything else.
    """
    found = {"data_digest": data.digest(), "corpus": data.corpus, "stand_in": data.stand_in}
    # Names alone say less, and a manifest may have another one by now.
    compared = ("data_digest",) if "data_digest" in config else ("corpus", "stand_in")
    if any(config.get(name, found[name]) != found[name] for name in compared):
        before, now = (
            ", ".join(f"{name} {of[name]}" for name in found if name in of)
            for of in (config, found)
        )
        raise RunError(
            f"{folder} was begun on other data: {before}; now {now}. Have files, a manifest, or "
            "$PVAE_DATA (--data) changed? On another processor features differ in their last "
            "digits: copy the folder $PVAE_CACHE from the first machine, which holds them"
        )
    return found


def load_run_data(
    folder: str | Path, root: Path | None = None, moved: Mapping[str, str] | None = None
) -> PairedData:
    """The data that a run was trained and scored on; root is as of --data.

    moved: options that say where they lie now.

    Raises RunError when it is no longer the same, CorpusError when it is not there.
    """
    config = read_config(folder)
    for name, now in (moved or {}).items():
        if now != config[name] and not may_move(name, config[name], now):
            raise RunError(f"{folder} is of {name} {config[name]}, and not of {now}")
    config |= moved or {}
    data = load_data(config, root or data_root())
    check_data(config, data, folder)
    return data


def folder_within(folder: Path, name: str) -> Path:
    """Of a run's folder, the one of that name that commands write into, there or not yet.

    Raises RunError where it is a link: who made it had us write elsewhere.
    """
    path = Path(folder) / name
    if path.is_symlink():
        raise RunError(f"{path} is a link: nothing is written by it")
    return path


def load_run(
    folder: str | Path, device: str = "cpu", weights: str = CHECKPOINT
) -> tuple[nn.Module, nn.Module]:
    """The trained model and guide of a run.

    weights: the file of the folder that holds them; `pvae_pyro.training.best.BEST` is another.

    Raises RunError without a readable config.json, CheckpointError without its checkpoint.
    """
    config = {**read_config(folder), "device": device}
    check_size(config, Path(folder), weights)
    model, guide, _ = build_model(config)
    load_weights(Path(folder) / weights, model, guide)
    return model.eval(), guide.eval()


def check_size(config: Mapping[str, Any], folder: Path, weights: str = CHECKPOINT) -> None:
    """Refuse a configuration of more weights than its checkpoint holds, before it is built: a
    number in a file of someone else's may ask for any memory. Raises RunError, CheckpointError."""
    try:
        size = (folder / weights).stat().st_size
    except OSError as error:
        raise CheckpointError(f"there is no checkpoint {folder / weights}") from error
    try:
        number = _num_weights(config)
    except (RuntimeError, RunError) as error:  # RuntimeError: more than any tensor holds
        raise RunError(f"{folder}: {CONFIG} asks for what cannot be built ({error})") from error
    if 4 * number > size:
        raise RunError(f"{folder}: {CONFIG} is of {number:,} weights, more than {weights} holds")


def as_tensor(config: Mapping[str, Any]) -> Tensor:
    """What of a configuration stays as it is while a run is trained, for its checkpoint."""
    return torch.frombuffer(
        bytearray(json.dumps(_staying(config), sort_keys=True).encode()), dtype=torch.uint8
    )


def _staying(config: Mapping[str, Any]) -> dict[str, Any]:
    # Whether data are the same their digest says, wherever they lie.
    changing = {*MAY_CHANGE, "threads", *PLACES, "corpus"}
    return {name: value for name, value in config.items() if name not in changing}


def check_same(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a configuration that its checkpoint was not trained with: somebody edited it.

    Raises RunError naming what differs, CheckpointError. Checkpoints of earlier versions do not
    tell; options that came since are not compared.
    """
    kept = load_extra(folder / CHECKPOINT).get(OF_CHECKPOINT)
    if kept is None:
        return
    try:
        trained = parse_object(kept.numpy().tobytes().decode())
    except (ValueError, TypeError) as error:  # TypeError: of a type that numpy has not
        raise CheckpointError(f"{folder / CHECKPOINT} holds another configuration") from error
    now = json.loads(json.dumps(config))
    if different := [k for k, v in _staying(trained).items() if k in now and now[k] != v]:
        told = ", ".join(f"{k} is {now[k]!r}, of it {trained[k]!r}" for k in different)
        raise RunError(f"{folder}: {CONFIG} is not what {CHECKPOINT} was trained with: {told}")


def check_memory(config: Mapping[str, Any]) -> None:
    """Refuse a model that memory cannot hold while it is trained and saved, before it is built.

    Raises RunError naming the options that make its size.
    """
    device = torch.device(config["device"])
    there, each = None, 16  # bytes of a weight, its gradient and Adam's two moments
    if device.type == "cuda":
        there = torch.cuda.get_device_properties(device).total_memory
    elif device.type == "cpu" and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        each += 3 * 12  # the checkpoint: copies, the file's content, and what it is put together in
    try:
        number = _num_weights(config)
    except RuntimeError as error:  # more than any tensor holds
        raise RunError(f"the model cannot be built ({error}): {_sizes(config)}") from error
    if there is not None and each * number > there:
        raise RunError(
            f"the model has {number:,} weights: to train them takes {each * number / 1e9:,.0f} GB, "
            f"and {device} has {there / 1e9:,.0f}: {_sizes(config)}"
        )


def _num_weights(config: Mapping[str, Any]) -> int:
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model, guide, _ = build_model({**config, "device": "meta"})
    parameters = {*model.parameters(), *guide.parameters()}  # a prior may share the guide's
    return sum(parameter.numel() for parameter in parameters)


def _sizes(config: Mapping[str, Any]) -> str:
    names = ("num_cells", "semantic_dim", "style_dim", "num_components")
    return ", ".join(f"--{name.replace('_', '-')} {config[name]}" for name in names)


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
    if not 1 <= config.get("max_frames", 1) <= _MOST_FRAMES:
        return f"max_frames {config['max_frames']}"
    rates = {
        "sample_rate_of_features": config.get("sample_rate_of_features", 4000),
        **config.get("sample_rates", {}),
    }
    if wrong := [name for name, rate in rates.items() if not 4000 <= rate <= 192_000]:
        return f"{ascii(wrong[0])[:60]} at {rates[wrong[0]]} Hz"
    return None
