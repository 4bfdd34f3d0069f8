"""What a training run is: one frozen, validated configuration.

The command line, its help, config.json, the checks on loading and the JSON Schema are made from the
fields below. A new option is a field here and the line that uses it.
"""

from pathlib import PureWindowsPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import from_json, to_json
from typing_extensions import Self

from pvae_pyro.io.files import expanded

MANIFEST = "manifest:"
VAE = "vae-"
MOST_EXAMPLES = 10_000_000  # of a batch, a class
MOST_STEPS = 10_000_000  # and epochs
MOST_UNITS = 1 << 20  # of a layer
MOST_SEED = 2**32 - 1  # scikit-learn's

# `paper`: Hsu & Glass 2018, as far as its text survives (docs/model.md, "Constants").
# `quick`: the same images, a smaller LSTM, smaller batches, fewer steps: minutes on two cores.
PRESETS: dict[str, dict[str, int]] = {
    "paper": {"epochs": 400, "batch_size": 256, "num_cells": 512},
    "quick": {"steps": 3200, "batch_size": 64, "num_cells": 256},
}
# `paper`: its plain setting; scales and weights that its text has lost are in docs/model.md.
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


def absolute(text: str) -> str:
    """A path as text: absolute, because a run may be resumed from another folder.

    Windows' absolute paths stay as they are: the run may have come from there.
    """
    if PureWindowsPath(text).is_absolute():
        return text
    return str(expanded(text).absolute())


def _dataset(text: str) -> str:
    if text.startswith(MANIFEST):
        return MANIFEST + absolute(text.removeprefix(MANIFEST))
    return text


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names or len(set(names)) < len(names):
        raise ValueError(f"give each modality once, and at least one; got {','.join(names)!r}")
    return names


def _known_model(text: str) -> str:
    if text not in ("pvae", "jmvae") and not (text.startswith(VAE) and text != VAE):
        raise ValueError(f"there is no model {text!r}: choose pvae, jmvae or vae-NAME")
    return text


def option(
    default: Any, help: str, *, metavar: str | None = None, first: bool = False, **bounds: Any
) -> Any:
    """A field that is a command-line option; `first` puts it among the main options of --help."""
    shown: dict[str, Any] = {"metavar": metavar, "first": first}
    return Field(default, description=help, json_schema_extra=shown, **bounds)


Dataset = Annotated[str, AfterValidator(_dataset)]
PathText = Annotated[str, AfterValidator(absolute)]
Labels = tuple[str, ...]
Count = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, le=0.99)]
Weight = Annotated[float, Field(ge=0.0, le=1e9)]
Scale = Annotated[float, Field(ge=1e-6, le=1e6)]
Seconds = Annotated[float, Field(ge=0.0, le=3600.0)]
Decibels = Annotated[float, Field(ge=0.0, le=3600.0)]
Width = Annotated[int, Field(gt=0, le=MOST_UNITS)]
Steps = Annotated[int, Field(gt=0, le=MOST_STEPS)]


class Group(BaseModel):
    """Options that belong together; the docstring heads them in --help."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class Data(Group):
    """data"""

    dataset: Dataset = option(
        "tidigit",
        "speech: tidigit, secuvoice, fsdd, audio_mnist, speech_commands, an4, mswc, or "
        "manifest:FILE.csv with the columns path,label,speaker,split. tidigit and secuvoice are "
        "licensed: where they are not found, a synthetic stand-in takes their place and says so",
        metavar="NAME",
        first=True,
    )
    modalities: Annotated[Labels, AfterValidator(_each_once)] = option(
        ("speech", "image"),
        "what is learnt from, of speech, image, those that --modality adds and those of your own "
        "(docs/modalities.md). An epoch is a pass over the first one; each of its examples goes "
        "with a random example of the same class of every other",
        metavar="A,B,…",
        first=True,
    )
    modality: Labels = option(
        (),
        "a second speech, as NAME=speech:DATASET (for example spanish=speech:secuvoice); it joins "
        "--modalities. Separate several by commas",
        metavar="NAME=speech:DATASET",
    )
    image_dataset: Dataset = option(
        "mnist", "mnist, or manifest:FILE.csv with the columns path,label,split", metavar="NAME"
    )
    classes: Labels | None = option(None, "use these labels alone", metavar="A,B")
    limit: Annotated[int, Field(gt=0, le=MOST_EXAMPLES)] | None = option(
        None, "use at most N recordings of each class and partition, to try things out", metavar="N"
    )
    require_corpus: bool = option(False, "fail rather than use a stand-in")
    strict: bool = option(
        False, "stop at the first file that cannot be used, instead of leaving it out and saying so"
    )
    min_seconds: Seconds = option(0.03, "leave out recordings that are shorter", metavar="S")
    max_seconds: Annotated[float, Field(gt=0.0, le=3600.0)] = option(
        3.0, "leave out recordings that are longer", metavar="S"
    )


class Corpora(Group):
    """single corpora"""

    folder: PathText | None = option(
        None, "where tidigit or secuvoice lies, if not in the data folder", metavar="PATH"
    )
    alignments: PathText | None = option(
        None, "tidigit: CTM file or folder; else tidigits_ctm in the data folder", metavar="PATH"
    )
    speakers: Literal["adults", "children", "all"] | None = option(
        None, "tidigit: whose recordings (adults)"
    )
    oh: Literal["zero", "drop", "separate"] | None = option(
        None, 'tidigit, an4: the word "oh" is 0, is left out, or is the class o (zero)'
    )
    pattern: str | None = option(
        None, "secuvoice: file names, as {speaker}/{phone}/{digit}.wav", metavar="TEXT"
    )
    phone: str | None = option(
        None, "secuvoice: which telephone; else the one of higher dynamic range", metavar="NAME"
    )
    validation: Literal["drop", "train"] | None = option(
        None, "speech_commands: what becomes of its validation list (drop)"
    )
    language: str | None = option(None, "mswc: code of the language (es)", metavar="CODE")
    words: Labels | None = option(
        None, "mswc: the words that are the classes; else the digits", metavar="A,B"
    )
    manifest_root: PathText | None = option(
        None, "folder that a manifest's paths are in; else the manifest's own", metavar="PATH"
    )
    sample_rate: Annotated[int, Field(ge=4000, le=192_000)] | None = option(
        None, "manifest: sample rate of its features", metavar="HZ"
    )
    channel: Annotated[int, Field(ge=1, le=1024)] | None = option(
        None,
        "manifest: which channel of files that have several, counted from 1; else their mean",
        metavar="N",
    )
    image_root: PathText | None = option(
        None, "as --manifest-root, of an image manifest", metavar="PATH"
    )


class VoiceActivityOptions(Group):
    """voice activity (silence at both ends)"""

    trim: bool | None = option(None, "cut silence off both ends; else only of secuvoice")
    vad_depth: Decibels = option(
        30.0, "dB below the level of speech where it ends, in a quiet file", metavar="X"
    )
    vad_margin: Decibels = option(
        1.5, "dB above the level of noise where it ends, in a noisy file", metavar="X"
    )
    vad_shortest: Seconds = option(
        0.035, "seconds; a shorter sound is a click, not speech", metavar="X"
    )
    vad_longest_gap: Seconds = option(0.1, "seconds of silence within a word", metavar="X")
    vad_hangover: Seconds = option(
        0.010, "seconds kept after the last frame of speech", metavar="X"
    )


class Missing(Group):
    """missing modalities (in training only)"""

    missing: Fraction = option(
        0.0, "remove each modality of each example with this probability, for good", metavar="X"
    )
    drop_incomplete: bool = option(
        False, "requires --missing: train only on the examples that lack nothing"
    )
    paired: Annotated[float, Field(gt=0.0, le=1.0)] = option(
        1.0, "the fraction of pairs that is known; the others are taken apart", metavar="X"
    )
    paired_share: Fraction = option(
        0.5,
        "with --paired: repeat known pairs until they are this share of what is seen",
        metavar="X",
    )
    pairs: Literal["anew", "fixed"] = option(
        "anew", "pair by class anew in each epoch, or keep the first epoch's pairs"
    )
    unseen_classes: Labels | None = option(
        None,
        "train without these classes; evaluate.py tells where they lie in the latents",
        metavar="A,B",
    )


class Model(Group):
    """model"""

    model: Annotated[str, AfterValidator(_known_model)] = option(
        "pvae",
        "pvae; or one of the paper's baselines, jmvae and vae-NAME (the VAE of one modality), with "
        "one latent of as many dimensions",
        metavar="MODEL",
        first=True,
    )
    num_cells: Width | None = option(
        None, "cells of an LSTM; else the preset's", metavar="N", first=True
    )
    semantic_dim: Width = option(32, "size of z_sem", metavar="N")
    style_dim: Width = option(32, "size of each z_style", metavar="N")
    prior: Literal["normal", "mixture", "vamp", "flow"] = option(
        "normal", "prior of z_sem, or of a baseline's z: N(0, I), or one that is learnt"
    )
    num_components: Annotated[int, Field(gt=0, le=10_000)] = option(
        30, "components of --prior mixture or vamp", metavar="N"
    )
    speech_encoder: Literal["lstm", "conv", "transformer"] = option(
        "lstm", "network by which the guides read speech (docs/networks.md)"
    )
    image_likelihood: Literal["normal", "bernoulli", "laplace"] = option(
        "normal", "distribution of a pixel in [0, 1]; bernoulli has no scale"
    )
    duration_scale: Annotated[float, Field(ge=0.0, le=1e6)] = option(
        0.1,
        "observation scale of log-duration; 0 leaves duration out of the model, as in the paper",
        metavar="X",
    )
    learn_scale: bool = option(
        False, "learn the observation scales of speech and image from their initial values"
    )


class Objective(Group):
    """objective"""

    objective: Literal["paper", "ours"] = option(
        "ours", "where the weights and scales below come from unless they are given", first=True
    )
    alpha: Weight | None = option(None, "weight of the coherence (pvae, jmvae)", metavar="X")
    beta: Weight | None = option(None, "weight of the contrastive hinge", metavar="X")
    margin: Weight | None = option(None, "margin of the hinge (η)", metavar="X")
    length_scale: Scale | None = option(None, "length scale of the hinge's RBF kernel", metavar="X")
    gamma: Weight | None = option(
        None, "weight of the dependence of z_style on z_sem (HSIC)", metavar="X"
    )
    delta: Weight | None = option(
        None, "weight of recovering z_sem from what is generated in any style", metavar="X"
    )
    speech_scale: Scale | None = option(
        None, "observation scale of a normalised log-Mel coefficient", metavar="X"
    )
    image_scale: Scale | None = option(
        None, "observation scale of a pixel in [0, 1]; a smaller one is sharper", metavar="X"
    )


class Training(Group):
    """training"""

    preset: Literal["auto", "paper", "quick"] = option(
        "auto",
        "paper: 512 cells, 400 epochs of batches of 256; quick, for two CPU cores: 256 cells and "
        "3200 steps of 64 in whole epochs; auto: paper on CUDA, else quick",
        first=True,
    )
    epochs: Steps | None = option(
        None, "passes over the first modality; else the preset's", metavar="N", first=True
    )
    steps: Steps | None = option(
        None, "gradient steps, rounded up to whole epochs; else the preset's", metavar="N"
    )
    batch_size: Annotated[int, Field(gt=0, le=MOST_EXAMPLES)] | None = option(
        None, "examples a step; else the preset's", metavar="N"
    )
    learning_rate: Annotated[float, Field(gt=0.0, le=1e6)] = option(
        1e-3, "learning rate of Adam", metavar="X"
    )
    seed: Annotated[int, Field(ge=0, le=MOST_SEED)] = option(
        0, "seed of weights, pairs and noise", metavar="N", first=True
    )
    device: str = option(
        "auto", "cpu, cuda, cuda:1, …; auto: cuda where there is one", metavar="NAME", first=True
    )
    precision: Literal["float32", "bfloat16"] = option(
        "float32",
        "what networks compute in; bfloat16 is for GPUs (on CPU the LSTM stays float32)",
    )
    checkpoint_seconds: Annotated[float, Field(ge=0.0, le=1e9)] = option(
        60.0, "seconds of training between checkpoints: the most that a kill can cost", metavar="X"
    )
    skip_bad_batches: bool = option(
        False, "leave out and count batches that come to NaN or overflow, instead of ending"
    )
    num_clusters: Annotated[int, Field(gt=0, le=100_000)] | None = option(
        None, "clusters of k-means when latents are scored; else the number of classes", metavar="N"
    )
    hold_out: Annotated[float, Field(ge=0.0, le=0.5)] = option(
        0.0,
        "score on this fraction of the training partition, and train on the rest; the test "
        "partition is not touched",
        metavar="X",
    )


class Found(Group):
    """found out when the run was begun; no options"""

    corpus: str | None = None
    stand_in: bool | None = None
    data_digest: str | None = None
    max_frames: Annotated[int, Field(ge=1, le=1_000_000)] | None = None  # nearly three hours
    sample_rates: dict[str, Annotated[int, Field(ge=4000, le=192_000)]] | None = None
    threads: int | None = None


OPTIONS: tuple[type[Group], ...] = (
    Data, Corpora, VoiceActivityOptions, Model, Objective, Training, Missing,
)  # fmt: skip
# What may change when a run is resumed: how long, where, and how carefully.
MAY_CHANGE = ("epochs", "device", "checkpoint_seconds", "skip_bad_batches")
# Where data lie. They may have moved since a run was begun; their digest tells if they are equal.
PLACES = (
    *("dataset", "image_dataset", "modality"),
    *("folder", "alignments", "manifest_root", "image_root"),
)


class Options(Data, Corpora, VoiceActivityOptions, Model, Objective, Training, Missing):
    """What a user asks for; None is what a preset, an objective or the data decide."""

    @model_validator(mode="after")
    def _options_go_together(self) -> Self:
        if self.missing and self.paired < 1:
            raise ValueError("give --missing or --paired, not both")
        if self.drop_incomplete and not self.missing:
            raise ValueError("--drop-incomplete requires --missing")
        if not self.min_seconds < self.max_seconds:
            raise ValueError("--min-seconds must be less than --max-seconds")
        if self.trim is False and self.tells_how_to_trim:
            raise ValueError("--no-trim contradicts the --vad options, which say how to trim")
        if self.only_modality not in (None, *self.names):
            raise ValueError(f"--model {self.model}: --modalities has no {self.only_modality}")
        return self

    @property
    def second_speeches(self) -> dict[str, str]:
        """The modalities that --modality adds: name -> dataset. Raises ValueError."""
        found: dict[str, str] = {}
        for text in self.modality:
            name, _, source = text.partition("=")
            kind, _, dataset = source.partition(":")
            if kind != "speech" or not name or not dataset:
                raise ValueError(f"--modality {text}: write NAME=speech:DATASET")
            found[name] = _dataset(dataset)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """All modalities that there are data of, the one that leads the pairing first."""
        return tuple(dict.fromkeys((*self.modalities, *self.second_speeches)))

    @property
    def only_modality(self) -> str | None:
        """That of a vae-NAME; other models have all of them."""
        return self.model.removeprefix(VAE) if self.model.startswith(VAE) else None

    @property
    def modelled(self) -> tuple[str, ...]:
        """The modalities of the model."""
        return self.names if self.only_modality is None else (self.only_modality,)

    @property
    def tells_how_to_trim(self) -> bool:
        """Whether a --vad option is set."""
        fields = VoiceActivityOptions.model_fields
        vad = [name for name in fields if name.startswith("vad_")]
        return any(getattr(self, name) != fields[name].default for name in vad)

    @property
    def lacks_modalities(self) -> bool:
        """Whether examples that the model is trained on lack modalities."""
        return self.paired < 1 or (self.missing > 0 and not self.drop_incomplete)

    def gathered(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Those of the fields that are given, by name."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def resolved(self, device: str) -> "Config":
        """With every default filled in that does not depend on the data; `device` is no "auto"."""
        preset = self.preset
        if preset == "auto":
            preset = "paper" if device.startswith("cuda") else "quick"
        filled: dict[str, Any] = {**PRESETS[preset], **OBJECTIVES[self.objective]}
        if self.epochs or self.steps:
            filled = {n: v for n, v in filled.items() if n not in ("epochs", "steps")}
        filled = {n: v for n, v in filled.items() if getattr(self, n) is None}
        return Config(**{**dict(self), **filled, "preset": preset, "device": device})


class Config(Options, Found):
    """The configuration of a run, as config.json has it: nothing is left open but, before the data
    are read, the number of epochs."""

    preset: Literal["paper", "quick"]
    num_cells: Width
    batch_size: Annotated[int, Field(gt=0, le=MOST_EXAMPLES)]
    alpha: Weight
    beta: Weight
    margin: Weight
    length_scale: Scale
    gamma: Weight
    delta: Weight
    speech_scale: Scale
    image_scale: Scale

    def with_epochs(self, num_examples: int) -> Self:
        """With as many epochs as make `steps`, where none are given."""
        if self.epochs is not None:
            return self
        assert self.steps is not None
        steps_per_epoch = -(-num_examples // self.batch_size)
        return self.but(epochs=-(-self.steps // steps_per_epoch))

    def may_move(self, name: str, now: Any) -> bool:
        """Whether a field may become `now` because data have moved: manifests, and folders."""
        before = getattr(self, name)
        if name == "modality":
            then, there = self.second_speeches, self.but(modality=now).second_speeches
            both = [(then[n], there[n]) for n in then if n in there]
            return then.keys() == there.keys() and all(
                old == new or (old.startswith(MANIFEST) and new.startswith(MANIFEST))
                for old, new in both
            )
        if name in ("dataset", "image_dataset"):
            return before.startswith(MANIFEST) and now.startswith(MANIFEST)
        return name in PLACES

    def but(self, **changed: Any) -> Self:
        """The same but for some fields, which are checked. Raises ValueError as the class does."""
        return type(self)(**{**dict(self), **changed})


def of_earlier_version(content: dict[str, Any]) -> dict[str, Any]:
    """A config.json's content in today's terms: it may lack options that came later, which had
    their defaults and the paper's objective, and have some that are gone."""
    found = {"objective": "paper", **OBJECTIVES["paper"], **content}
    spanish = found.pop("spanish_dataset", None)
    if spanish and "spanish" in found.get("modalities", ()):
        found["modality"] = [f"spanish=speech:{spanish}"]
    if "sample_rate_of_features" in found:
        found.setdefault("sample_rates", {"speech": found["sample_rate_of_features"]})
    return {name: value for name, value in found.items() if name in Config.model_fields}


def config_of_json(content: bytes) -> Config:
    """The configuration in a config.json. Raises ValueError, also where it is not JSON."""
    found = from_json(content, allow_inf_nan=False)
    if not isinstance(found, dict) or "num_cells" not in found:
        raise ValueError("it is not a configuration")
    return Config.model_validate_json(to_json(of_earlier_version(found)))
