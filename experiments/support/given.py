"""Options that were given, held against what a run is."""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from pvae_pyro.experiments.support.data import OF_MODALITY, may_move
from pvae_pyro.experiments.support.settings import (
    MAY_CHANGE,
    NOT_CONFIGURATION,
    OBJECTIVES,
    OF_COMPONENTS,
    OF_NETWORKS,
    OF_PVAE,
    PLACES,
    VAE,
)


def without_effect(
    parser: argparse.ArgumentParser, argv: list[str] | None, config: Mapping[str, Any]
) -> list[str]:
    """Options given in `argv` that say nothing to the model, or are of modalities that are not."""
    model, names = config["model"], config["modalities"]
    modelled = [model.removeprefix(VAE)] if model.startswith(VAE) else names
    unused = set() if model == "pvae" else {*OF_PVAE}
    unused |= {"alpha"} if model.startswith(VAE) else set()
    unused |= {"paired", "paired_share", "pairs"} if model.startswith(VAE) else set()
    unused |= {"paired_share"} if config["paired"] == 1 else set()
    unused |= set() if config["prior"] in OF_COMPONENTS else {"num_components"}
    unused |= {"image_scale"} if config["image_likelihood"] == "bernoulli" else set()
    for options, there in ((OF_NETWORKS, modelled), (OF_MODALITY, names)):
        of = {name: {*options.get(name, ())} for name in {*options, *there}}
        unused |= set().union(*of.values()) - set().union(*(of[name] for name in there))
    given = _given(parser, argv)
    return [f"--{name.replace('_', '-')}" for name in given if name in unused]


def changes(
    parser: argparse.ArgumentParser, argv: list[str] | None, config: Mapping[str, Any]
) -> dict[str, Any]:
    """Options given in `argv` that may change when a run is taken up again."""
    return {
        name: value
        for name, value in _given(parser, argv).items()
        if name in MAY_CHANGE or may_move(name, config.get(name), value)
    }


def _given(parser: argparse.ArgumentParser, argv: list[str] | None) -> dict[str, Any]:
    """Options given in `argv`, at whatever value."""
    not_given = object()
    names = vars(parser.parse_args([]))
    parser.set_defaults(**dict.fromkeys(names, not_given))
    given = {k: v for k, v in vars(parser.parse_args(argv)).items() if v is not not_given}
    parser.set_defaults(**names)
    return given


def wrong_options(parser: argparse.ArgumentParser, config: Mapping[str, Any]) -> Iterator[str]:
    """What of a configuration, which may be anyone's, is no value of its option.

    None is one where it is the default, and not of what a preset or an objective fills in.
    """
    filled = {*OBJECTIVES["paper"], "num_cells", "batch_size"}
    for action in parser._actions:
        name = action.dest
        if name not in config or name in NOT_CONFIGURATION:
            continue
        value = config[name]
        if name in PLACES and isinstance(value, str):
            continue  # of another system perhaps, where paths are written in another way
        if value is None and action.default is None and name not in filled:
            continue
        if (why := _misfit(action, value)) is not None:
            yield f"{name} is {ascii(value)[:60]}{why and f' ({why})'}"


def _misfit(action: argparse.Action, value: Any) -> str | None:
    """Why it is no value of an option, "" for another type; None where it is one."""
    if action.nargs == 0:
        return None if isinstance(value, bool) else ""
    if action.choices is not None:
        return None if isinstance(value, str) and value in action.choices else ""
    kind = getattr(action.type, "of", str)
    types = {list: list, str: str}.get(kind, (int, float))
    if isinstance(value, bool) or not isinstance(value, types):
        return ""
    if kind is list and not all(isinstance(word, str) for word in value):
        return ""
    text = ",".join(value) if kind is list else value if kind is str else repr(value)
    try:
        same = action.type is None or action.type(text) == value
    except ValueError:
        return ""
    except argparse.ArgumentTypeError as error:
        return str(error)
    return None if same else ""


def contradictions(
    parser: argparse.ArgumentParser, argv: list[str] | None, config: dict[str, Any]
) -> list[str]:
    """Options given in `argv`, at whatever value, that differ from a run's configuration."""
    return [
        f"--{name.replace('_', '-')} {value} (the run: {config.get(name)})"
        for name, value in _given(parser, argv).items()
        if name not in (*NOT_CONFIGURATION, *MAY_CHANGE)
        and value != config.get(name)
        and not may_move(name, config.get(name), value)
    ]
