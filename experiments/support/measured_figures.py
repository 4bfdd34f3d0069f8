"""The figures of evaluation.json beyond the coherence, one number each, for a study's table."""

from collections.abc import Iterator, Mapping
from typing import Any

_CLASS = {  # key of a probe of z_style -> what it reads
    "class_of_samples": "samples",
    "class_nonlinear_of_samples": "samples, non-linearly",
    "class": "means",
    "class_nonlinear": "means, non-linearly",
    "class_of_active": "means of active dimensions",
    "class_nonlinear_of_active": "means of active dimensions, non-linearly",
}
_SPEAKER = {"speaker_of_samples": "samples", "speaker": "means"}

Figure = tuple[str, float | None, float | None]  # name, value, chance level


def figures_of(found: Mapping[str, Any]) -> Iterator[Figure]:
    """Each figure of what was measured; measures that are absent give none."""
    yield from _before_fit(found.get("coherence", {}))
    yield from _swaps(found.get("style_swap", {}))
    yield from _probes(found.get("probes", {}))
    for name, kept in found.get("styles", {}).get("kept", {}).items():
        for quantity, of in kept.items():
            if quantity not in ("speaker", "reason"):
                yield f"correlation {name} {quantity}, with the style's example", of["style"], None
                yield f"correlation {name} {quantity}, with the content's", of["content"], None
    for name, of in found.get("fidelity", {}).items():
        yield f"error of reconstruction {name}", of["reconstruction"]["error"], None
        for what in ("real", "reconstruction", "prior"):
            if "frechet" in of.get(what, {}):
                yield f"distance (Fréchet) {name}, {what}", of[what]["frechet"], None
    for name, of in found.get("kl", {}).get("z_style", {}).items():
        yield f"KL z_style {name}, nats", of["nats"], None
    for latent, of_names in found.get("num_classes", {}).items():
        for name, of in of_names.items():
            yield f"classes counted {latent} {name}", of.get("number"), None


def _before_fit(coherence: Mapping[str, Any]) -> Iterator[Figure]:
    by_chance = coherence.get("chance", {}).get("before_fit", {}).get("prior", {})
    for name, share in coherence.get("before_fit", {}).get("prior", {}).items():
        what = f"pairs from the prior before the fit agree {name}"
        yield what, share, by_chance.get(name)


def _swaps(found: Mapping[str, Any]) -> Iterator[Figure]:
    for name, of in found.items():
        key = "content_class_other"
        yield f"swap keeps the content {name}", of.get(key), of.get(f"{key}_chance")


def _probes(found: Mapping[str, Any]) -> Iterator[Figure]:
    for latent, reads, probes in (("z_style", "class", _CLASS), ("z_sem", "speaker", _SPEAKER)):
        for name, of in found.get(latent, {}).items():
            for key, what in probes.items():
                probe = of.get(key, {})
                figure = f"probe: {reads} off {latent} {name}, {what}"
                yield figure, probe.get("accuracy"), probe.get("chance")
