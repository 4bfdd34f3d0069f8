"""Command line and presets of a training run."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.arguments import number
from experiments.corpora import add_corpus_options, add_image_options

# `paper`: Hsu & Glass 2018, as far as its text survives (README, "Constants").
# `quick`: the same images, a smaller LSTM, smaller batches, fewer steps: minutes on two cores.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"epochs": 400, "batch_size": 256, "num_cells": 512},
    "quick": {"steps": 3200, "batch_size": 64, "num_cells": 256},
}
# `paper`: its plain setting; scales and weights that its text has lost are as in the README.
# `ours`: what docs/objective.md found to work, with two terms that the paper lacks (γ, δ).
OBJECTIVES: dict[str, dict[str, float]] = {
    "paper": {
        "alpha": 1.0,
        "beta": 100.0,
        "margin": 0.5,
        "length_scale": 1.0,
        "gamma": 0.0,
        "delta": 0.0,
        "speech_scale": 1.0,
        "image_scale": 1.0,
    },
    "ours": {
        "alpha": 3.0,
        "beta": 100.0,
        "margin": 0.5,
        "length_scale": 3.0,
        "gamma": 100.0,
        "delta": 1.0,
        "speech_scale": 1.0,
        "image_scale": 0.5,
    },
}
# What networks compute in, where torch holds it safe; parameters and distributions are float32.
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
MODELS = ("pvae", "jmvae", "vae-speech", "vae-image")
# Of the command and the place, not of what is trained.
NOT_CONFIGURATION = ("data", "out", "resume", "report")
# What may change when a run is taken up again: how long, and where.
MAY_CHANGE = ("epochs", "device")


# Options that say nothing to some models.
OF_PVAE = ("beta", "margin", "length_scale", "gamma", "delta")
WITHOUT_EFFECT = {
    "jmvae": OF_PVAE,
    "vae-speech": (*OF_PVAE, "alpha", "image_scale"),
    "vae-image": (*OF_PVAE, "alpha", "speech_scale", "duration_scale", "num_cells"),
}


class DeviceError(Exception):
    """The device that was asked for cannot be used; the message says why."""


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    pass


def make_parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=_Help, allow_abbrev=False
    )
    positive, natural = number(float, above=0.0), number(int, above=0)

    add_corpus_options(parser)
    add_image_options(parser)

    run = parser.add_argument_group("run").add_argument
    run(
        "--preset",
        choices=("auto", *PRESETS),
        default="auto",
        help="paper: {num_cells} cells, {epochs} epochs; ".format(**PRESETS["paper"])
        + "quick, for two CPU cores: {num_cells} cells, the epochs that ".format(**PRESETS["quick"])
        + "make {steps} steps; auto: paper on CUDA, else quick".format(**PRESETS["quick"]),
    )
    run("--epochs", type=natural, metavar="N", help="passes over the speech; else the preset's")
    run("--batch-size", type=natural, metavar="N", help="examples a step; else the preset's")
    run("--num-cells", type=natural, metavar="N", help="cells of an LSTM; else the preset's")
    run("--learning-rate", type=positive, default=1e-3, metavar="X", help="Adam's")
    run(
        "--seed",
        type=number(int, least=0, most=2**32 - 1),
        default=0,
        metavar="N",
        help="of weights, pairs and noise",
    )
    run("--device", default="auto", help="cpu, cuda, cuda:1, …; auto: cuda where there is one")
    run(
        "--precision",
        choices=tuple(PRECISIONS),
        default="float32",
        help="what networks compute in; bfloat16 is for GPUs (on CPU the LSTM stays float32)",
    )
    run(
        "--out",
        type=Path,
        metavar="DIR",
        help="run folder; else runs/<dataset>-<preset>-seed<n>-<time>",
    )
    run(
        "--resume",
        nargs="?",
        const=True,
        metavar="DIR",
        help="go on with the run in DIR (or --out), in its own configuration; only --epochs and "
        "--device may be changed",
    )

    run(
        "--no-report",
        dest="report",
        action="store_false",
        help="no report.html at the end: figures and sound, which take a minute or two",
    )

    run(
        "--num-clusters",
        type=natural,
        metavar="N",
        help="of k-means, when latents are scored; else the number of classes",
    )

    run(
        "--hold-out",
        type=number(float, least=0.0, most=0.5),
        default=0.0,
        metavar="X",
        help="train on the rest of the training partition and score on this fraction of it; the "
        "test partition is not touched",
    )

    model = parser.add_argument_group("model and objective").add_argument
    weight = number(float, least=0.0)
    model(
        "--model",
        choices=MODELS,
        default="pvae",
        help="jmvae and the vae of one modality are the paper's baselines, with one latent of as "
        "many dimensions",
    )
    model(
        "--objective",
        choices=tuple(OBJECTIVES),
        default="ours",
        help="defaults of the eight that follow: "
        + "; ".join(
            f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in values.items())
            for name, values in OBJECTIVES.items()
        ),
    )
    for name, kind, help in (
        ("alpha", weight, "weight of the coherence (pvae, jmvae)"),
        ("beta", weight, "weight of the contrastive hinge"),
        ("margin", weight, "of the hinge (η)"),
        ("length-scale", positive, "of the hinge's RBF kernel"),
        ("gamma", weight, "weight of the dependence of z_style on z_sem (HSIC)"),
        ("delta", weight, "weight of reading z_sem again off what is generated in any style"),
        ("speech-scale", positive, "observation scale of a normalised log-Mel coefficient"),
        ("image-scale", positive, "observation scale of a pixel in [0, 1]; less is sharper"),
    ):
        model(f"--{name}", type=kind, metavar="X", help=f"{help}; else the objective's")
    model("--semantic-dim", type=natural, default=32, metavar="N", help="size of z_sem")
    model("--style-dim", type=natural, default=32, metavar="N", help="size of each z_style")
    model(
        "--duration-scale",
        type=weight,
        default=0.1,
        metavar="X",
        help="observation scale of log-duration; 0 leaves duration out of the model",
    )
    return parser


def resolve(arguments: argparse.Namespace) -> dict[str, Any]:
    """The configuration with every default filled in that does not depend on the data."""
    config = config_of(arguments)
    config["device"] = resolve_device(config["device"])
    if config["preset"] == "auto":
        config["preset"] = "paper" if config["device"].startswith("cuda") else "quick"
    for name, value in (PRESETS[config["preset"]] | OBJECTIVES[config["objective"]]).items():
        if name in config and config[name] is None:
            config[name] = value
    return config


def config_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Of all options, those that say what is trained."""
    return {k: v for k, v in vars(arguments).items() if k not in NOT_CONFIGURATION}


def fill_epochs(config: dict[str, Any], num_examples: int) -> None:
    """Epochs where none are given: as many as make the preset's steps."""
    if config["epochs"] is None:
        steps_per_epoch = -(-num_examples // config["batch_size"])
        config["epochs"] = -(-PRESETS[config["preset"]]["steps"] // steps_per_epoch)


def resolve_device(device: str) -> str:
    """``auto`` is CUDA where there is one. Raises DeviceError if it cannot be used."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"cannot use --device {device}: {reason}") from error
    return device


def without_effect(
    parser: argparse.ArgumentParser, argv: list[str] | None, model: str
) -> list[str]:
    """Options given in `argv` that say nothing to the model."""
    given = _given(parser, argv)
    return [
        f"--{name.replace('_', '-')}" for name in WITHOUT_EFFECT.get(model, ()) if name in given
    ]


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
        if value is None and action.default is None and name not in filled:
            continue
        if not _is_value(action, value):
            yield f"{name} is {ascii(value)[:60]}"


def _is_value(action: argparse.Action, value: Any) -> bool:
    if action.nargs == 0:
        return isinstance(value, bool)
    if action.choices is not None:
        return isinstance(value, str) and value in action.choices
    kind = getattr(action.type, "of", str)
    if kind is list:
        return isinstance(value, list) and all(isinstance(word, str) for word in value)
    if kind is str:
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return action.type(repr(value)) == value
    except (ValueError, argparse.ArgumentTypeError):
        return False


def contradictions(
    parser: argparse.ArgumentParser, argv: list[str] | None, config: dict[str, Any]
) -> list[str]:
    """Options given in `argv`, at whatever value, that differ from a run's configuration."""
    return [
        f"--{name.replace('_', '-')} {value} (the run: {config.get(name)})"
        for name, value in _given(parser, argv).items()
        if name not in (*NOT_CONFIGURATION, *MAY_CHANGE) and value != config.get(name)
    ]
