"""The files of a run that say how it did, read as what they are: anyone's."""

from pathlib import Path
from typing import Any

from pvae_pyro.experiments.support.errors import RunError
from pvae_pyro.experiments.support.runs import config_problem, with_defaults
from pvae_pyro.io.checked_json import NUMBER, misfit, read_json

STYLE = "z_style"
_SCORES = {str: {str: NUMBER}}  # of a latent and a modality
_PURITIES = {
    "corpus": str,
    "stand_in": bool,
    "dataset": str,
    "preset": str,
    "seed": int,
    "steps": int,
    "config": {
        "model": str,
        "batch_size": int,
        "hold_out": NUMBER,
        "num_clusters": (int, type(None)),
        "objective": str,
        "alpha": NUMBER,
        "beta": NUMBER,
    },
    "git_commit": (str, type(None)),
    "purity": _SCORES,
    "active_units": _SCORES,
}
_WHOLE = {
    **_PURITIES,
    "active_units": {str: {str: int}},
    "model": str,
    "classes": [str],
    "device": str,
    "platform": str,
    "epochs": int,
    "seconds_training": NUMBER,
    "versions": {str: str},
    "nmi": _SCORES,
    "ari": _SCORES,
    "test_terms": {str: NUMBER},
    "remarks?": [str],
    "left_out?": {str: int},
}
_PROBE = {"accuracy": (*NUMBER, type(None)), "chance": (*NUMBER, type(None))}
_FOUND = {
    "agreed": (int, type(None)),
    "agreed_by?": int,
    "criteria?": {str: int},
    "inertia?": [NUMBER],
    "reason?": str,
}
# Of evaluation.json, what is read again; the rest is only shown.
_EVALUATION = {
    **{f"{score}?": _SCORES for score in ("purity", "nmi", "ari", "hungarian", "active_units")},
    "num_classes?": {str: {str: _FOUND}},
    "probes?": {str: {str: {str: _PROBE}}},
    "retrieval?": {str: {str: {"recall_at_1": NUMBER, "mrr": NUMBER}}},
    "coherence?": {str: object},
    "style_swap?": {str: object},
    "styles?": {"kept?": {str: {str: object}}, "diversity?": {str: object}},
    "recognised?": {str: object},
    "log_likelihood?": {str: object},
}


def read_results(path: Path, whole: bool = True) -> dict[str, Any]:
    """A run's results.json. whole: with all that a report tells, not the purities alone.

    Raises RunError naming the file where it is damaged, OSError where it cannot be read.
    """
    try:
        content = read_json(path)
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error})") from error
    wrong = misfit(content, _WHOLE if whole else _PURITIES)
    wrong = wrong or config_problem(with_defaults(content["config"])) or _lacking(content, whole)
    if wrong:
        raise RunError(f"{path} is damaged ({wrong})")
    return content


def _lacking(content: dict[str, Any], whole: bool) -> str | None:
    """A score that there is of one latent and modality and not of another kind."""
    for latent, purities in content["purity"].items():
        for score in ("active_units", *(("nmi", "ari") if whole else ())):
            if content[score].get(latent, {}).keys() != purities.keys():
                return f"its {score} are of other latents than its purity"
        for name in purities if whole else ():
            site = f"{latent}_{name}" if latent == STYLE else latent
            if f"kl/{site}" not in content["test_terms"]:
                return f"its test_terms have no kl/{site}"
    return None


def evaluation_problem(content: dict[str, Any]) -> str | None:
    """What in an evaluation.json cannot be, in words; None is nothing."""
    if wrong := misfit(content, _EVALUATION):
        return wrong
    for score in ("nmi", "ari", "hungarian", "active_units"):
        for latent, purities in content.get("purity", {}).items():
            if content.get(score, {}).get(latent, {}).keys() != purities.keys():
                return f"its {score} are of other latents than its purity"
    for of_modality in content.get("probes", {}).values():
        for probe in (probe for probes in of_modality.values() for probe in probes.values()):
            if (probe["accuracy"] is None) != (probe["chance"] is None):
                return "probes: an accuracy and no chance, or the other way round"
    for of_modality in content.get("num_classes", {}).values():
        for found in of_modality.values():
            if found["agreed"] is None and "reason" not in found:
                return "num_classes: neither a number nor a reason"
            if found["agreed"] is not None and not (
                {"agreed_by", "criteria", "inertia"} <= found.keys()
                and 1 <= found["agreed"] <= len(found["inertia"])
            ):
                return f"num_classes: {found['agreed']} is not what its curve has"
    return None
