"""Command line and presets of a training run."""

import argparse
from typing import Any

import torch

from pvae_pyro.experiments.support.arguments import (
    MOST_EXAMPLES,
    MOST_STEPS,
    MOST_UNITS,
    Help,
    add_place,
    add_seed,
    number,
    place,
)
from pvae_pyro.experiments.support.data import (
    add_corpus_options,
    add_image_options,
    add_modality_options,
    label_list,
)
from pvae_pyro.experiments.support.errors import DeviceError
from pvae_pyro.experiments.support.settings import (
    HOW_LONG,
    MODELS,
    NOT_CONFIGURATION,
    OBJECTIVES,
    PRECISIONS,
    PRESETS,
    PRIORS,
    VAE,
)
from pvae_pyro.models.likelihoods import FAMILIES
from pvae_pyro.models.modalities import SPEECH_ENCODERS

# That torch itself computes on, and draws noise.
_COMPUTING = ("cpu", "cuda", "mps", "xpu")


class _Help(Help, argparse.ArgumentDefaultsHelpFormatter):
    pass


def make_parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=_Help, allow_abbrev=False
    )
    width = number(int, above=0, most=MOST_UNITS)
    how_long = number(int, above=0, most=MOST_STEPS)

    add_corpus_options(parser)
    add_image_options(parser)
    add_modality_options(parser)

    run = parser.add_argument_group("run").add_argument
    run(
        "--preset",
        choices=("auto", *PRESETS),
        default="auto",
        help="paper: {num_cells} cells, {epochs} epochs; ".format(**PRESETS["paper"])
        + "quick, for two CPU cores: {num_cells} cells, the epochs that ".format(**PRESETS["quick"])
        + "make {steps} steps; auto: paper on CUDA, else quick".format(**PRESETS["quick"]),
    )
    run(
        "--epochs",
        type=how_long,
        metavar="N",
        help="passes over what leads; else the preset's",
    )
    run("--steps", type=how_long, metavar="N", help="in whole epochs, else the preset's")
    run(
        "--batch-size",
        type=number(int, above=0, most=MOST_EXAMPLES),
        metavar="N",
        help="examples a step; else the preset's",
    )
    run("--num-cells", type=width, metavar="N", help="cells of an LSTM; else the preset's")
    run(
        "--learning-rate",
        type=number(float, above=0.0, most=1e6),
        default=1e-3,
        metavar="X",
        help="Adam's",
    )
    add_seed(run, "weights, pairs and noise")
    add_place(run, data=False)
    run(
        "--precision",
        choices=tuple(PRECISIONS),
        default="float32",
        help="what networks compute in; bfloat16 is for GPUs (on CPU the LSTM stays float32)",
    )
    run(
        "--out",
        type=place,
        metavar="DIR",
        help="run folder; else runs/<dataset>-<preset>-seed<n>-<time>",
    )
    run(
        "--resume",
        type=place,
        nargs="?",
        const=True,
        metavar="DIR",
        help="go on with the run in DIR (or --out), in its own configuration; only --epochs, "
        "--device and the three that follow may be changed, and where data lie that have moved",
    )
    run(
        "--checkpoint-seconds",
        type=number(float, least=0.0, most=1e9),
        default=60.0,
        metavar="X",
        help="of training between checkpoints: what a kill costs at most",
    )
    run(
        "--skip-bad-batches",
        action="store_true",
        help="leave out batches that come to NaN or overflow, and count them, instead of ending",
    )
    run(
        "--best-of",
        type=number(int, least=0, most=MOST_STEPS),
        default=5,
        metavar="N",
        help="besides the last weights keep, of the last N epochs, those of the one with the best "
        "training objective",
    )

    run(
        "--no-report",
        dest="report",
        action="store_false",
        help="no report.html at the end: figures and sound, which take a minute or two",
    )

    run(
        "--num-clusters",
        type=number(int, above=0, most=100_000),
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

    run(
        "--unseen-classes",
        type=label_list,
        metavar="A,B",
        help="train without these classes; evaluate.py says where they lie in the latents",
    )

    of_presence = parser.add_argument_group("missing modalities (of training alone)").add_argument
    fraction = number(float, least=0.0, most=0.99)
    of_presence(
        "--missing",
        type=fraction,
        default=0.0,
        metavar="X",
        help="each modality of each example is missing with this probability, for good",
    )
    of_presence(
        "--drop-incomplete",
        action="store_true",
        help="with --missing: train on the examples alone that lack nothing",
    )
    of_presence(
        "--paired",
        type=number(float, above=0.0, most=1.0),
        default=1.0,
        metavar="X",
        help="this fraction of the pairs is known; the others are taken apart",
    )
    of_presence(
        "--paired-share",
        type=fraction,
        default=0.5,
        metavar="X",
        help="with --paired: known pairs come as often as makes this share of what is seen",
    )
    of_presence(
        "--pairs",
        choices=("anew", "fixed"),
        default="anew",
        help="each epoch pairs anew, by class, or all of them as the first",
    )

    model = parser.add_argument_group("model and objective").add_argument
    weight, scale = number(float, least=0.0, most=1e9), number(float, least=1e-6, most=1e6)
    model(
        "--model",
        type=_model,
        default="pvae",
        metavar="MODEL",
        help="pvae; jmvae and vae-NAME, the vae of one modality, are the paper's baselines, with "
        "one latent of as many dimensions",
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
        ("length-scale", scale, "of the hinge's RBF kernel"),
        ("gamma", weight, "weight of the dependence of z_style on z_sem (HSIC)"),
        ("delta", weight, "weight of reading z_sem again off what is generated in any style"),
        ("speech-scale", scale, "observation scale of a normalised log-Mel coefficient"),
        ("image-scale", scale, "observation scale of a pixel in [0, 1]; less is sharper"),
    ):
        model(f"--{name}", type=kind, metavar="X", help=f"{help}; else the objective's")
    model("--semantic-dim", type=width, default=32, metavar="N", help="size of z_sem")
    model(
        "--prior",
        choices=PRIORS,
        default="normal",
        help="of z_sem, or of a baseline's z: N(0, I), or learnt",
    )
    model(
        "--num-components",
        type=number(int, above=0, most=10_000),
        default=30,
        metavar="N",
        help="of --prior mixture or vamp",
    )
    model("--style-dim", type=width, default=32, metavar="N", help="size of each z_style")
    model(
        "--duration-scale",
        type=number(float, least=0.0, most=1e6),
        default=0.1,
        metavar="X",
        help="observation scale of log-duration; 0 leaves duration out of the model",
    )
    model(
        "--image-likelihood",
        choices=FAMILIES,
        default="normal",
        help="of a pixel in [0, 1]; bernoulli has no scale",
    )
    model(
        "--learn-scale",
        action="store_true",
        help="learn the speech and image scales, starting at what they are set to",
    )
    model(
        "--speech-encoder",
        choices=tuple(SPEECH_ENCODERS),
        default="lstm",
        help="network that the guides read speech by (docs/networks.md)",
    )
    return parser


def resolve(arguments: argparse.Namespace) -> dict[str, Any]:
    """The configuration with every default filled in that does not depend on the data."""
    config = config_of(arguments)
    config["device"] = resolve_device(config["device"])
    if config["preset"] == "auto":
        config["preset"] = "paper" if config["device"].startswith("cuda") else "quick"
    how_long = any(config[name] for name in HOW_LONG)
    for name, value in (PRESETS[config["preset"]] | OBJECTIVES[config["objective"]]).items():
        if name in config and config[name] is None and not (how_long and name in HOW_LONG):
            config[name] = value
    return config


def config_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Of all options, those that say what is trained."""
    return {k: v for k, v in vars(arguments).items() if k not in NOT_CONFIGURATION}


def check_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuse what no single option shows to be wrong."""
    if arguments.epochs and arguments.steps:
        parser.error("--epochs and --steps: how long is said in one way or the other")
    if arguments.missing and arguments.paired < 1:
        parser.error("--missing and --paired: examples lack modalities in one way or the other")
    if arguments.drop_incomplete and not arguments.missing:
        parser.error("--drop-incomplete is of examples with --missing modalities")


def fill_epochs(config: dict[str, Any], num_examples: int) -> None:
    """Epochs where none are given: as many as make the steps."""
    if config["epochs"] is None:
        steps_per_epoch = -(-num_examples // config["batch_size"])
        config["epochs"] = -(-config["steps"] // steps_per_epoch)


def resolve_device(device: str) -> str:
    """``auto`` is CUDA where there is one. Raises DeviceError if it cannot be used."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
        if kind not in _COMPUTING:
            raise DeviceError(
                f"cannot use --device {device}: nothing is computed there; a run is on one of "
                f"{', '.join(_COMPUTING)}"
            )
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"cannot use --device {device}: {reason}") from error
    return device


def check_model(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuse the vae of a modality that there is not."""
    name = arguments.model.removeprefix(VAE)
    if arguments.model.startswith(VAE) and name not in arguments.modalities:
        parser.error(f"--model {arguments.model}: --modalities has no {name}")


def _model(text: str) -> str:
    if text not in MODELS and not (text.startswith(VAE) and text != VAE):
        raise argparse.ArgumentTypeError(f"no model {text!r}: choose pvae, jmvae or vae-NAME")
    return text
