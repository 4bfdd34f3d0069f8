"""What results.json and evaluation.json hold. Their JSON Schemas are `Results.model_json_schema()`
and `Evaluation.model_json_schema()`."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from typing_extensions import Self

from pvae_pyro.evaluate.measures import SCORES
from pvae_pyro.evaluate.run import STYLE
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.config import Config, of_earlier_version

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Shares = dict[str, dict[str, Share]]  # latent -> modality -> share
Numbers = dict[str, dict[str, float]]


def _config(content: Any) -> Any:
    """A configuration, perhaps of an earlier version, from JSON, which has lists for tuples."""
    if not isinstance(content, dict):
        return content
    found = of_earlier_version(content)
    return {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}


class _File(BaseModel):
    """Fields that are not listed are kept and not checked."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


File = TypeVar("File", bound=_File)


class Results(_File):
    """results.json: what was run, and how its latents score on the test partition."""

    corpus: str
    stand_in: bool
    dataset: str
    model: str = "pvae"
    preset: str
    seed: Count
    steps: Count
    epochs: Count | None = None
    classes: list[str] = []
    remarks: list[str] = []
    left_out: dict[str, Count] = {}
    device: str = "cpu"
    platform: str = ""
    versions: dict[str, str] = {}
    git_commit: str | None
    seconds_training: float = 0.0
    config: Annotated[Config, BeforeValidator(_config)]
    purity: Shares = Field({}, description="k-means purity: latent -> modality -> share")
    not_scored: str = Field("", description="which scores need labels, if the data have none")
    nmi: Shares = Field({}, description="normalised mutual information")
    ari: Numbers = Field({}, description="adjusted Rand index")
    hungarian: Shares = Field(
        {}, description="accuracy under the best matching of clusters to classes"
    )
    purity_chance: Shares = Field({}, description="purity of random clusters of the same sizes")
    nmi_chance: Shares = Field({}, description="nmi of random clusters of the same sizes")
    hungarian_chance: Shares = Field(
        {}, description="hungarian of random clusters of the same sizes"
    )
    active_units: Numbers = Field(
        description="dimensions whose posterior mean has a variance above 0.01"
    )
    test_terms: dict[str, float] = Field({}, description="terms of the objective, nats per example")

    @model_validator(mode="after")
    def _check_latents(self) -> Self:
        for latent, purities in self.purity.items():
            if self.active_units.get(latent, {}).keys() != purities.keys():
                raise ValueError("purity and active_units have different latents or modalities")
        return self

    def kl(self, latent: str, modality: str) -> float | None:
        """The latent's KL divergence in nats; one number for a latent that modalities share."""
        site = f"{latent}_{modality}" if latent == STYLE else latent
        return self.test_terms.get(f"kl/{site}")


def not_scored(classes: Collection[str]) -> str:
    """A sentence about the scores that are left out if the data have no labels; else nothing."""
    if classes:
        return ""
    what = f"{', '.join(SCORES)} need labels, which the data do not have"
    return f"{what}; evaluate.py --labels FILE.csv takes some, to score only"


class Evaluation(_File):
    """evaluation.json: the measures that other commands read; the others are only shown."""

    purity: Shares = {}
    active_units: Numbers = {}
    num_classes: dict[str, dict[str, dict[str, Any]]] = {}
    coherence: dict[str, Any] = {}
    log_likelihood: dict[str, Any] = {}


def read_results(path: Path) -> Results:
    """A run's results.json. Raises RunError naming the file if it is damaged, OSError if it
    cannot be read."""
    return _read(Results, path)


def read_evaluation(path: Path) -> Evaluation:
    """A run's evaluation.json. Raises as `read_results`."""
    return _read(Evaluation, path)


def _read(model: type[File], path: Path) -> File:
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise RunError(f"{path} is damaged: {field}: {first['msg']}") from error
