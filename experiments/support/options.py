"""Every option of a training run, in groups. To add one, add a field here and use it.

A field's type and bounds check its value, and its description is its help. None stands for what a
preset, an objective or the data decide.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pvae_pyro.experiments.support.arguments import MOST_EXAMPLES, MOST_SEED, MOST_STEPS
from pvae_pyro.io.files import expanded
from pvae_pyro.nn.choices import (
    ContrastName,
    ImageColour,
    PixelFamily,
    PriorName,
    SpeechEncoderName,
)

MANIFEST = "manifest:"
PAIRS = "pairs:"
VAE = "vae-"


def absolute(text: str) -> str:
    """An absolute path, because a run may be resumed from another working directory."""
    return str(expanded(text).absolute())


def absolute_manifest(text: str) -> str:
    """A dataset: its name, or ``manifest:`` or ``pairs:`` and an absolute path."""
    for kind in (MANIFEST, PAIRS):
        if text.startswith(kind):
            return kind + absolute(text.removeprefix(kind))
    return text


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names or len(set(names)) < len(names):
        raise ValueError(f"give each modality once, and at least one; got {','.join(names)!r}")
    return names


def _known_model(text: str) -> str:
    if text not in ("pvae", "jmvae") and not (text.startswith(VAE) and text != VAE):
        raise ValueError(f"there is no model {text!r}: choose pvae, jmvae or vae-NAME")
    return text


def option(default: Any, help: str, metavar: str = "", main: bool = False) -> Any:
    """A field that is a command-line option; `main` puts it among the main options of --help."""
    return Field(default, description=help, json_schema_extra={"metavar": metavar, "main": main})


Dataset = Annotated[str, AfterValidator(absolute_manifest)]
PathText = Annotated[str, AfterValidator(absolute)]
Labels = tuple[str, ...]
Fraction = Annotated[float, Field(ge=0.0, le=0.99)]
Weight = Annotated[float, Field(ge=0.0, le=1e9)]
Scale = Annotated[float, Field(ge=1e-6, le=1e6)]
ScaleOrNone = Annotated[float, Field(ge=0.0, le=1e6)]  # 0: none
Seconds = Annotated[float, Field(ge=0.0, le=3600.0)]
Decibels = Annotated[float, Field(ge=0.0, le=3600.0)]
SampleRate = Annotated[int, Field(ge=4000, le=192_000)]
Width = Annotated[int, Field(gt=0, le=1 << 20)]
Side = Annotated[int, Field(ge=28, le=128)]  # of an image, in pixels
Examples = Annotated[int, Field(gt=0, le=MOST_EXAMPLES)]
Steps = Annotated[int, Field(gt=0, le=MOST_STEPS)]
StepsOrNone = Annotated[int, Field(ge=0, le=MOST_STEPS)]
Rate = Annotated[float, Field(gt=0.0, le=1e6)]


class Group(BaseModel):
    """Options that belong together, under the docstring as heading in --help."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class Data(Group):
    """data"""

    dataset: Dataset = option(
        "tidigit",
        "speech: tidigit, secuvoice, fsdd, audio_mnist, speech_commands, an4, mswc, or "
        "manifest:FILE.csv with the columns path,label,speaker,split; or pairs:FILE.csv, whose "
        "rows are examples of all modalities (speech,image,split), without labels. tidigit and "
        "secuvoice are licensed: where they are not found, a synthetic stand-in takes their place "
        "and says so",
        main=True,
    )
    modalities: Annotated[Labels, AfterValidator(_each_once)] = option(
        ("speech", "image"),
        "speech, image, those that --modality adds and your own (docs/modalities.md). An epoch is "
        "a pass over the first one, which pairs each example with others of the same class. "
        "pairs:FILE.csv has all its columns as modalities, unless this option names some",
        main=True,
    )
    modality: Labels = option(
        (),
        "a second speech, for example spanish=speech:secuvoice; it joins --modalities. Separate "
        "several by commas",
        "NAME=speech:DATASET",
    )
    image_dataset: Dataset = option(
        "mnist", "mnist, or manifest:FILE.csv with the columns path,label,split"
    )
    image_size: Side | None = option(
        None, "images become squares of N x N pixels, 28 to 128; larger ones take longer (28)"
    )
    image_colour: ImageColour | None = option(
        None, "read a manifest's images in grey or RGB; else in RGB if one of them holds colour"
    )
    classes: Labels | None = option(None, "use these labels alone")
    limit: Examples | None = option(None, "use at most N recordings of each class and partition")
    require_corpus: bool = option(False, "fail rather than use a stand-in")
    strict: bool = option(False, "stop at the first unusable file, instead of leaving it out")
    min_seconds: Seconds = option(0.03, "leave out recordings that are shorter")
    max_seconds: Annotated[float, Field(gt=0.0, le=3600.0)] = option(
        3.0, "leave out recordings that are longer"
    )


class Corpora(Group):
    """single corpora"""

    folder: PathText | None = option(
        None, "tidigit, secuvoice: folder of the corpus; else found in the data folder"
    )
    alignments: PathText | None = option(
        None, "tidigit: CTM file or folder; else tidigits_ctm in the data folder"
    )
    speakers: Literal["adults", "children", "all"] | None = option(
        None, "tidigit: the speakers whose recordings are used (adults)"
    )
    oh: Literal["zero", "drop", "separate"] | None = option(
        None, 'tidigit, an4: the word "oh" is 0, is left out, or is the class o (zero)'
    )
    pattern: str | None = option(None, "secuvoice: file names, as {speaker}/{phone}/{digit}.wav")
    phone: str | None = option(
        None, "secuvoice: the telephone; else the one with more dynamic range"
    )
    validation: Literal["drop", "train"] | None = option(
        None, "speech_commands: drop the validation list, or train on it (drop)"
    )
    language: str | None = option(None, "mswc: code of the language (es)")
    words: Labels | None = option(None, "mswc: the words that are the classes; else the digits")
    manifest_root: PathText | None = option(None, "folder of a manifest's paths; else its own")
    sample_rate: SampleRate | None = option(
        None, "manifest, pairs: sample rate of the features, in Hz"
    )
    channel: Annotated[int, Field(ge=1, le=1024)] | None = option(
        None, "manifest, pairs: the channel to read, from 1; else the mean of all channels"
    )
    image_root: PathText | None = option(None, "folder of an image manifest's paths; else its own")


class VoiceActivityOptions(Group):
    """voice activity (silence at both ends)"""

    trim: bool | None = option(None, "cut off silence at both ends; default: only for secuvoice")
    vad_depth: Decibels = option(30.0, "in a quiet file, speech ends X dB below its level")
    vad_margin: Decibels = option(1.5, "in a noisy file, speech ends X dB above the noise")
    vad_shortest: Seconds = option(0.035, "seconds; a shorter sound is a click, not speech")
    vad_longest_gap: Seconds = option(0.1, "seconds of silence within a word")
    vad_hangover: Seconds = option(0.010, "seconds kept after the last frame of speech")


class Model(Group):
    """model"""

    model: Annotated[str, AfterValidator(_known_model)] = option(
        "pvae",
        "pvae; or one of the paper's baselines, jmvae and vae-NAME (the VAE of one modality), with "
        "one latent that has as many dimensions",
        main=True,
    )
    num_cells: Width | None = option(None, "cells of an LSTM; else the preset's", main=True)
    semantic_dim: Width = option(32, "dimensions of z_sem")
    style_dim: Width = option(32, "dimensions of each z_style")
    prior: PriorName = option(
        "normal", "prior of z_sem, or of a baseline's z; normal: the paper's N(0, I)"
    )
    num_components: Annotated[int, Field(gt=0, le=10_000)] = option(
        30, "components of --prior mixture or vamp"
    )
    fit_prior: bool | None = option(
        None,
        "after training, fit Gaussian mixtures to the posteriors as the priors of z_sem and the "
        "styles, and take z_sem's components out of the styles (docs/priors.md); default: with "
        "--objective ours. A prior that training has learnt stays",
    )
    speech_encoder: SpeechEncoderName = option(
        "lstm", "network by which the guides read speech (docs/networks.md)"
    )
    image_likelihood: PixelFamily = option(
        "normal", "distribution of a pixel in [0, 1]; bernoulli has no scale"
    )
    learn_scale: bool = option(False, "learn the observation scales of speech and image")


class Objective(Group):
    """objective"""

    objective: Literal["paper", "ours"] = option(
        "ours", "which weights and scales are the defaults of the options below", main=True
    )
    alpha: Weight | None = option(None, "weight of the coherence (pvae, jmvae)")
    contrast: ContrastName | None = option(
        None,
        "how pairs are contrasted in z_sem: hinge, the paper's, with one other example; infonce, "
        "with all others of the batch",
    )
    beta: Weight | None = option(None, "weight of the contrastive term")
    margin: Weight | None = option(None, "margin of the hinge (η)")
    length_scale: Scale | None = option(None, "length scale of the contrast's RBF kernel")
    gamma: Weight | None = option(None, "weight of the dependence of z_style on z_sem (HSIC)")
    delta: Weight | None = option(None, "weight of recovering z_sem from what is generated")
    epsilon: Weight | None = option(
        None, "weight of the KL divergences between the unimodal guides' posteriors of z_sem"
    )
    speech_scale: Scale | None = option(None, "observation scale of a log-Mel coefficient")
    image_scale: Scale | None = option(None, "observation scale of a pixel; smaller is sharper")
    duration_scale: ScaleOrNone | None = option(
        None, "observation scale of log-duration; 0 leaves duration out, as in the paper"
    )


class Training(Group):
    """training"""

    preset: Literal["auto", "paper", "quick"] = option(
        "auto",
        "paper: 512 cells, 400 epochs of batches of 256; quick, for two CPU cores: 256 cells and "
        "3200 steps of 64 in whole epochs; auto: paper on CUDA, else quick",
        main=True,
    )
    epochs: Steps | None = option(None, "passes over the data; else the preset's", main=True)
    steps: Steps | None = option(
        None, "training steps, rounded up to whole epochs; else the preset's"
    )
    batch_size: Examples | None = option(None, "examples a step; else the preset's")
    augment: Labels = option(
        (),
        "modalities whose training examples are varied: speech (voice, tempo, level, noise), image "
        "(shape of strokes); see docs/data.md",
    )
    learning_rate: Rate | None = option(None, "learning rate of Adam; else the objective's")
    warm_up_steps: StepsOrNone | None = option(
        None, "steps in which the learning rate rises from 0; else the objective's"
    )
    clip_norm: Annotated[float, Field(ge=0.0, le=1e9)] = option(
        300.0,
        "scale gradients down to this L2 norm over all parameters, in nats per example; 0: never",
    )
    seed: Annotated[int, Field(ge=0, le=MOST_SEED)] = option(
        0, "seed of all random numbers", main=True
    )
    device: str = option("auto", "cpu, cuda, cuda:1, …; auto: cuda if it is available", main=True)
    precision: Literal["float32", "bfloat16"] = option(
        "float32",
        "number format in the networks; bfloat16 is meant for GPUs and CPUs with Intel's AMX",
    )
    checkpoint_seconds: Annotated[float, Field(ge=0.0, le=1e9)] = option(
        60.0, "seconds of training between checkpoints: the most that a kill can cost"
    )
    skip_bad_batches: bool = option(
        False, "skip and count batches whose loss is NaN or overflows, instead of stopping"
    )
    num_clusters: Annotated[int, Field(gt=0, le=100_000)] | None = option(
        None, "clusters of k-means when latents are scored; else the number of classes"
    )
    hold_out: Annotated[float, Field(ge=0.0, le=0.5)] = option(
        0.0,
        "score on this fraction of the training partition, and train on the rest; the test "
        "partition is not touched. Whole speakers are held out if the test speakers are others",
    )


class Missing(Group):
    """missing modalities (in training only)"""

    missing: Fraction = option(
        0.0, "remove each modality of each example with this probability, in all epochs alike"
    )
    drop_incomplete: bool = option(
        False, "with --missing, --paired or pairs:FILE.csv: train only on complete examples"
    )
    paired: Annotated[float, Field(gt=0.0, le=1.0)] = option(
        1.0, "the fraction of pairs that is known; the other pairs are separated"
    )
    paired_share: Fraction = option(
        0.5, "with --paired: repeat known pairs until they are this share of an epoch"
    )
    pairs: Literal["anew", "fixed"] = option(
        "anew",
        "pair by class anew in each epoch, which in time ties all examples of a class together, or "
        "keep the first epoch's pairs (docs/data.md); those of pairs:FILE.csv are fixed",
    )
    unseen_classes: Labels | None = option(None, "train without these classes (docs/unseen.md)")


OPTIONS: tuple[type[Group], ...] = (
    Data, Corpora, VoiceActivityOptions, Model, Objective, Training, Missing,
)  # fmt: skip
