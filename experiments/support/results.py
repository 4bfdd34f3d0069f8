"""What results.json and evaluation.json hold. Their JSON Schemas are `Results.model_json_schema()`
and `Evaluation.model_json_schema()`."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from typing_extensions import Self

from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.config import Config, of_earlier_version

STYLE = "z_style"

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Shares = dict[str, dict[str, Share]]  # latent -> modality -> share


def _config(content: Any) -> Any:
    """Of an earlier version, perhaps; JSON's lists are the configuration's tuples."""
    if not isinstance(content, dict):
        return content
    found = of_earlier_version(content)
    return {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}


class _File(BaseModel):
    """Fields that are not listed are kept, and not looked at."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class Results(_File):
    """results.json: what a run was, and how its latents score on the test partition."""

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
    purity: Shares = Field(description="k-means purity: latent -> modality -> share")
    nmi: Shares = Field({}, description="normalised mutual information")
    ari: dict[str, dict[str, Annotated[float, Field(ge=-1.0, le=1.0)]]] = Field(
        {}, description="adjusted Rand index"
    )
    hungarian: Shares = Field(
        {}, description="accuracy under the best matching of clusters to classes"
    )
    active_units: dict[str, dict[str, float]] = Field(
        description="dimensions whose posterior mean has a variance above 0.01"
    )
    test_terms: dict[str, float] = Field({}, description="terms of the objective, nats per example")

    @model_validator(mode="after")
    def _of_the_same_latents(self) -> Self:
        for score in (self.active_units, self.nmi or None, self.ari or None):
            for latent, purities in self.purity.items():
                if score is not None and score.get(latent, {}).keys() != purities.keys():
                    raise ValueError("its scores are not of the same latents")
        return self

    def kl(self, latent: str, modality: str) -> float | None:
        """The latent's KL divergence in nats; one number for a latent that modalities share."""
        site = f"{latent}_{modality}" if latent == STYLE else latent
        return self.test_terms.get(f"kl/{site}")


class Probe(_File):
    """A linear probe; null where there is only one class to tell."""

    accuracy: Share | None
    chance: Share | None


class NumClasses(_File):
    """The number of classes found without a label, or why there is none."""

    agreed: Count | None
    agreed_by: Count | None = None
    criteria: dict[str, Count] = {}
    inertia: list[float] = []
    reason: str | None = None

    @model_validator(mode="after")
    def _number_or_reason(self) -> Self:
        if self.agreed is None and self.reason is None:
            raise ValueError("it has neither a number nor a reason")
        if self.agreed is not None and not 1 <= self.agreed <= len(self.inertia):
            raise ValueError(f"{self.agreed} is not on its curve")
        return self


class Evaluation(_File):
    """evaluation.json: the measures that are read again; the others are only shown."""

    purity: Shares = {}
    nmi: Shares = {}
    ari: dict[str, dict[str, float]] = {}
    hungarian: Shares = {}
    active_units: dict[str, dict[str, float]] = {}
    num_classes: dict[str, dict[str, NumClasses]] = {}
    probes: dict[str, dict[str, dict[str, Probe]]] = {}
    retrieval: dict[str, dict[str, dict[str, float]]] = {}
    coherence: dict[str, Any] = {}
    style_swap: dict[str, Any] = {}
    styles: dict[str, Any] = {}
    recognised: dict[str, Any] | None = None
    log_likelihood: dict[str, Any] = {}


def read_results(path: Path) -> Results:
    """A run's results.json. Raises RunError naming the file where it is damaged, OSError where it
    cannot be read."""
    results: Results = _read(Results, path)
    return results


def read_evaluation(path: Path) -> Evaluation:
    """A run's evaluation.json. Raises as `read_results`."""
    evaluation: Evaluation = _read(Evaluation, path)
    return evaluation


def _read(model: type[_File], path: Path) -> Any:
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RunError(f"{path} is damaged: {place}: {first['msg']}") from error
