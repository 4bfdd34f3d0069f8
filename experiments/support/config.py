"""The configuration of a run: one frozen, validated object, as config.json holds it."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import from_json, to_json
from typing_extensions import Self

from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.options import (
    MANIFEST,
    PAIRS,
    VAE,
    Corpora,
    Data,
    Examples,
    Missing,
    Model,
    Objective,
    Rate,
    SampleRate,
    Scale,
    ScaleOrNone,
    Side,
    StepsOrNone,
    Training,
    VoiceActivityOptions,
    Weight,
    Width,
    absolute_manifest,
)
from pvae_pyro.nn.choices import ContrastName

# `paper`: Hsu & Glass 2018, as far as its text survives (docs/model.md, "Constants").
# `quick`: the same images, a smaller LSTM, smaller batches, fewer steps: minutes on two cores.
PRESETS: dict[str, dict[str, int]] = {
    "paper": {"epochs": 400, "batch_size": 256, "num_cells": 512},
    "quick": {"steps": 3200, "batch_size": 64, "num_cells": 256},
}
# `paper`: its plain setting; scales and weights that its text has lost are in docs/model.md.
# `ours`: what docs/objective.md found to work, with terms that the paper lacks (γ, δ, ε).
OBJECTIVES: dict[str, dict[str, Any]] = {
    "paper": {
        "alpha": 1.0, "contrast": "hinge", "beta": 100.0, "margin": 0.5, "length_scale": 1.0,
        "gamma": 0.0, "delta": 0.0, "epsilon": 0.0, "speech_scale": 1.0, "image_scale": 1.0,
        "duration_scale": 0.1, "fit_prior": False, "learning_rate": 0.001, "warm_up_steps": 0,
    },
    "ours": {
        "alpha": 3.0, "contrast": "infonce", "beta": 60.0, "margin": 0.5, "length_scale": 1.5,
        "gamma": 30.0, "delta": 1.0, "epsilon": 1.0, "speech_scale": 1.0, "image_scale": 0.32,
        "duration_scale": 0.05, "fit_prior": True, "learning_rate": 0.003, "warm_up_steps": 200,
    },
}  # fmt: skip
# Increase it if a term changes its meaning, so that runs begun before are not resumed with another
# objective. 2: the dependence that γ weights has no bias, and its width has gradients. 3: InfoNCE
# has a narrower kernel where the means of z_sem are near each other.
OBJECTIVE_VERSION = 3
# Options that may change when a run is resumed.
MAY_CHANGE = ("epochs", "device", "checkpoint_seconds", "skip_bad_batches")
# Where data lie. They may have moved since the run; their digest shows whether they are the same.
PLACES = (
    *("dataset", "image_dataset", "modality"),
    *("folder", "alignments", "manifest_root", "image_root"),
)


class Options(Data, Corpora, VoiceActivityOptions, Model, Objective, Training, Missing):
    """The options that a user gave, and the defaults of the others."""

    @model_validator(mode="after")
    def _options_go_together(self) -> Self:
        if self.missing and self.paired < 1:
            raise ValueError("give --missing or --paired, not both")
        if self.drop_incomplete and not (self.missing or self.paired < 1 or self.has_known_pairs):
            raise ValueError(
                "--drop-incomplete requires --missing, --paired or --dataset pairs:FILE.csv"
            )
        if self.has_known_pairs:
            self._refuse_with_known_pairs()
        if not self.min_seconds < self.max_seconds:
            raise ValueError("--min-seconds must be less than --max-seconds")
        # Which modalities a file of pairs has is known when it has been read.
        known = not self.has_known_pairs or "modalities" in self.model_fields_set
        if known and self.only_modality not in (None, *self.names):
            raise ValueError(f"--model {self.model}: --modalities has no {self.only_modality}")
        return self

    def _refuse_with_known_pairs(self) -> None:
        why = "the rows of pairs:FILE.csv are the pairs"
        if self.paired < 1:
            raise ValueError(f"--paired cannot be given: {why}; --missing may remove more")
        if self.pairs == "anew" and "pairs" in self.model_fields_set:
            raise ValueError(f"--pairs anew cannot be given: {why}, in every epoch")
        if self.modality:
            raise ValueError("--modality cannot be given: give pairs:FILE.csv a column for it")

    def _modalities_of_pairs(self) -> tuple[str, ...]:
        if "modalities" in self.model_fields_set:
            return self.modalities
        # Not above: it imports what reads sound and pictures, for which --help need not wait.
        from pvae_pyro.data.corpora.pairs_file import modalities_in

        found = modalities_in(self.dataset.removeprefix(PAIRS))
        if self.only_modality not in (None, *found):
            names = ", ".join(found)
            raise RunError(f"--model {self.model}: {self.dataset} has the modalities {names}")
        return found

    @property
    def has_known_pairs(self) -> bool:
        """Whether the data are the rows of a file of pairs."""
        return self.dataset.startswith(PAIRS)

    @property
    def second_speeches(self) -> dict[str, str]:
        """The modalities that --modality adds, name -> dataset. Raises ValueError."""
        found: dict[str, str] = {}
        for text in self.modality:
            name, _, source = text.partition("=")
            kind, _, dataset = source.partition(":")
            if kind != "speech" or not name or not dataset:
                raise ValueError(f"--modality {text}: write NAME=speech:DATASET")
            found[name] = absolute_manifest(dataset)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """All modalities with data; the first one leads the pairing."""
        return tuple(dict.fromkeys((*self.modalities, *self.second_speeches)))

    @property
    def only_modality(self) -> str | None:
        """The modality of a vae-NAME; None for other models, which have all modalities."""
        return self.model.removeprefix(VAE) if self.model.startswith(VAE) else None

    @property
    def modelled(self) -> tuple[str, ...]:
        """The modalities of the model."""
        return self.names if self.only_modality is None else (self.only_modality,)

    @property
    def has_vad_options(self) -> bool:
        """Whether a --vad option differs from its default."""
        fields = VoiceActivityOptions.model_fields
        return any(getattr(self, n) != fields[n].default for n in fields if n.startswith("vad_"))

    def resolved(self, device: str) -> "Config":
        """Fill in the defaults of the preset and the objective; `device` is not "auto".

        A file of pairs is asked for its modalities, which raises CorpusError if it cannot be read,
        and RunError if the model is of none of them.
        """
        preset = self.preset
        if preset == "auto":
            preset = "paper" if device.startswith("cuda") else "quick"
        defaults: dict[str, Any] = {**PRESETS[preset], **OBJECTIVES[self.objective]}
        if self.epochs or self.steps:
            defaults.update(epochs=self.epochs, steps=self.steps)
        filled = {name: v for name, v in defaults.items() if getattr(self, name) is None}
        filled |= {"preset": preset, "device": device, "objective_version": OBJECTIVE_VERSION}
        if self.has_known_pairs:
            filled |= {"pairs": "fixed", "modalities": self._modalities_of_pairs()}
        return Config(**{**dict(self), **filled})


class Config(Options):
    """The configuration of a run, as config.json holds it.

    Nothing is left open but the number of epochs, before the data are read.
    """

    # Found out when the run was begun; no options.
    corpus: str | None = None
    stand_in: bool | None = None
    data_digest: str | None = None
    image_shape: tuple[Literal[1, 3], Side, Side] | None = None
    max_frames: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    sample_rates: dict[str, SampleRate] | None = None
    threads: int | None = None

    preset: Literal["paper", "quick"]
    num_cells: Width
    batch_size: Examples
    alpha: Weight
    beta: Weight
    contrast: ContrastName
    margin: Weight
    length_scale: Scale
    gamma: Weight
    delta: Weight
    epsilon: Weight
    objective_version: Annotated[int, Field(ge=1)]
    learning_rate: Rate
    warm_up_steps: StepsOrNone
    speech_scale: Scale
    image_scale: Scale
    duration_scale: ScaleOrNone
    fit_prior: bool

    def with_epochs(self, num_examples: int) -> Self:
        """The number of epochs is computed from `steps` if it is not given."""
        if self.epochs is not None:
            return self
        assert self.steps is not None
        steps_per_epoch = -(-num_examples // self.batch_size)
        return self.but(epochs=-(-self.steps // steps_per_epoch))

    def but(self, **changed: Any) -> Self:
        """A copy with some fields changed and checked. Raises ValueError."""
        return type(self)(**{**dict(self), **changed})


def of_earlier_version(content: dict[str, Any]) -> dict[str, Any]:
    """Convert the content of an earlier version's config.json.

    Options that came later have their defaults and the paper's objective, and gradients were not
    clipped; some options are gone. The objective is of an earlier version only if it has a term
    that has changed since.
    """
    found = {"objective": "paper", "clip_norm": 0.0, **OBJECTIVES["paper"], **content}
    has_changed = found.get("model", "pvae") == "pvae" and found["gamma"] != 0
    version = found.get("objective_version", 1 if has_changed else OBJECTIVE_VERSION)
    if version == 2 and not (found["contrast"] == "infonce" and found["beta"]):
        version = OBJECTIVE_VERSION
    found["objective_version"] = version
    spanish = found.pop("spanish_dataset", None)
    if spanish and "spanish" in found.get("modalities", ()):
        found["modality"] = [f"spanish=speech:{spanish}"]
    if str(found.get("image_dataset", "")).startswith(MANIFEST):
        found.setdefault("image_colour", "grey")  # whatever their colours
    if "sample_rate_of_features" in found:
        found.setdefault("sample_rates", {"speech": found["sample_rate_of_features"]})
    return {name: value for name, value in found.items() if name in Config.model_fields}


def config_of_json(content: bytes) -> Config:
    """Read the content of a config.json. Raises ValueError."""
    found = from_json(content, allow_inf_nan=False)
    if not isinstance(found, dict) or "num_cells" not in found:
        raise ValueError("it is not a configuration")
    return Config.model_validate_json(to_json(of_earlier_version(found)))
