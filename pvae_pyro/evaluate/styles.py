"""Whether generated examples have the style they were given, and how varied they are.

It is measured on observations, by plain quantities of a hand or a voice, and not by the model's
own latents. Shapes: B examples.
"""

from collections.abc import Collection, Mapping
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import nn

from pvae_pyro.batch import Observation
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.evaluate.chance import agreement
from pvae_pyro.evaluate.judges import class_judges, judged, speaker_judges
from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun, some_of, tensor_locs
from pvae_pyro.generation import decode, shared_of, style_of

Quantities = dict[str, np.ndarray]
_LEAST = 20  # examples for a correlation


def of_pictures(values: np.ndarray) -> Quantities:
    """Slant, width and boldness of pictures ``[B, 1, H, W]``, light ink on black: ``[B]`` each.

    With the moments of ink about its centre, x to the right and y down:

        slant     -μ_xy / μ_yy        shear: 0 upright, positive leaning to the right
        width     sqrt(μ_xx)          standard deviation across, in pixels
        boldness  Σ ink / area        mean of the pixels
    """
    ink = np.clip(values[:, 0], 0, None).astype(np.float64)
    total = np.maximum(ink.sum((1, 2)), 1e-9)
    y, x = np.mgrid[: ink.shape[1], : ink.shape[2]].astype(np.float64)
    x_mean, y_mean = ((ink * axis).sum((1, 2)) / total for axis in (x, y))
    dx, dy = x - x_mean[:, None, None], y - y_mean[:, None, None]
    xx, xy, yy = ((ink * a * b).sum((1, 2)) / total for a, b in ((dx, dx), (dx, dy), (dy, dy)))
    slant = -xy / np.maximum(yy, 1e-9)
    return {"slant": slant, "width": np.sqrt(xx), "boldness": ink.mean((1, 2))}


def of_spectra(values: np.ndarray, lengths: np.ndarray) -> Quantities:
    """Duration, loudness and brightness of log energies ``[B, T, F]``: ``[B]`` each.

    duration: frames. loudness: log of the mean energy over frames and filters, in nats.
    brightness: the filter at the centre of the mean energy over frames, 0 to F - 1.
    """
    energies = np.empty((len(values), values.shape[2]))
    for energy, value, length in zip(energies, values, lengths, strict=True):
        energy[:] = np.exp(value[:length].astype(np.float64)).mean(0)
    return {
        "duration": lengths.astype(np.float64),
        "loudness": np.log(energies.mean(1)),
        "brightness": energies @ np.arange(energies.shape[1]) / energies.sum(1),
    }


def quantities(
    observation: Observation, normalisation: Normalisation, is_sound: bool = True
) -> Quantities:
    """`of_pictures` or `of_spectra` of a normalised observation.

    is_sound: whether sequences are log energies; others have only a duration. Observations of
    another shape have no quantity.
    """
    values = observation.value.detach().cpu().numpy() * normalisation.scale + normalisation.loc
    if observation.lengths is not None:
        lengths = observation.lengths.cpu().numpy()
        return of_spectra(values, lengths) if is_sound else {"duration": lengths.astype(float)}
    if values.ndim == 4 and values.shape[1] == 1:
        return of_pictures(values / np.max(normalisation.scale))
    return {}


def style_kept(
    model: nn.Module,
    unimodal: Mapping[str, nn.Module],
    test: Mapping[str, Examples],
    device: torch.device | str = "cpu",
    *,
    speakers: Mapping[str, tuple[nn.Module, list[str]]] | None = None,
    sounds: Collection[str] = (),
    limit: int = 500,
) -> dict[str, Any]:
    """Whether examples that are given the style of a random other one follow that style.

    Args:
        speakers: see `judges.speaker_judges`. sounds: the modalities whose sequences are log
            energies. limit: at most so many pairs, the same ones each time.

    Returns modality -> quantity -> {"style": correlation (Pearson) of the generated examples with
    the style's example, "content": with the content's, "reconstruction": of reconstructions with
    their originals}, all within classes: the mean of the (content's) class is subtracted, since a
    quantity may depend on the class; and "speaker": {"of_style", "of_content": the fractions judged
    to be of that speaker, where the two differ, "real": of real examples}, each with its chance
    level (`agreement`), e.g. "real_chance". None where undefined; a "reason" for modalities of
    which no quantity is known, such as RGB pictures; nothing of those without a style latent.
    """
    kept: dict[str, Any] = {}
    rng = np.random.default_rng(0)
    for name, guide in unimodal.items():
        content = test[name].take(rng.permutation(len(test[name]))[:limit])
        style = test[name].take(rng.permutation(len(test[name]))[: len(content)])
        of_content, of_style = (tensor_locs(guide, name, of, device) for of in (content, style))
        own = style_of(of_style, name)
        if not own or len(content) < _LEAST:
            continue
        restyled = decode(model, shared_of(of_content) | own, [name])[name]
        reconstructed = decode(model, of_content, [name])[name]
        within = [
            {
                quantity: _within(values, of.labels)
                for quantity, values in quantities(x, of.normalisation, name in sounds).items()
            }
            for x, of in (
                (restyled, content), (reconstructed, content), (_all(content), content),
                (_all(style), style),
            )
        ]  # fmt: skip
        made, again, original, given = within
        kept[name] = {
            quantity: {
                "style": _correlation(made[quantity], given[quantity]),
                "content": _correlation(made[quantity], original[quantity]),
                "reconstruction": _correlation(again[quantity], original[quantity]),
            }
            for quantity in made
        }
        if not made:
            shape = list(restyled.value.shape[1:])
            reason = f"no measure of style: they are of grey pictures and sequences, not of {shape}"
            kept[name]["reason"] = reason
        if speakers and name in speakers:
            kept[name]["speaker"] = _speaker(*speakers[name], restyled, content, style, device)
    return kept


def _speaker(
    judge: nn.Module, groups: list[str], made: Observation, content: Examples, style: Examples,
    device: torch.device | str,
) -> dict[str, float | None]:  # fmt: skip
    names = np.array(groups)
    heard = names[judged(judge, made, device)]
    real = names[judged(judge, _all(style), device)]
    of_style, of_content = np.array(style.groups), np.array(content.groups)
    other = of_style != of_content
    found: dict[str, float | None] = {}
    for figure, judgement, true in (
        ("of_style", heard[other], of_style[other]),
        ("of_content", heard[other], of_content[other]),
        ("real", real, of_style),
    ):
        found[figure], found[f"{figure}_chance"] = agreement(judgement, true)
    return found


def diversity(
    made: Observation,
    real: Observation,
    made_classes: np.ndarray,
    real_classes: np.ndarray,
    normalisation: Normalisation,
    is_sound: bool = True,
) -> dict[str, float | None]:
    """The spread of generated examples within classes, divided by that of real ones.

        (Σ_c sd_c) / (Σ_c sd'_c),  sd_c the standard deviation of a quantity in class c

    for each of `quantities`: 1 as varied as reality, 0 one prototype for each class. Only classes
    with two examples of both kinds count. Leave out generated examples of the wrong class, which
    would seem varied. None if real examples do not vary.
    """
    found: dict[str, float | None] = {}
    both = (
        (quantities(made, normalisation, is_sound), made_classes),
        (quantities(real, normalisation, is_sound), real_classes),
    )
    common = [c for c in np.unique(made_classes) if min((of == c).sum() for _, of in both) > 1]

    def spread(values: np.ndarray, of: np.ndarray) -> float:
        return sum(float(values[of == c].std()) for c in common)

    for quantity in both[0][0]:
        generated, actual = (spread(values[quantity], of) for values, of in both)
        found[quantity] = generated / actual if actual > 1e-9 else None
    return found


def measure(run: TrainedRun, settings: MeasureSettings) -> dict[str, Any]:
    """`style_kept` of the test partition, and `diversity` of translations of the right class.

    Without labels, correlations are over all examples, and there is no diversity.
    """
    labelled = all(examples.labelled for examples in run.test.values())
    return {
        "kept": style_kept(
            run.model,
            run.unimodal,
            run.test,
            run.device,
            speakers=speaker_judges(run, settings),
            sounds=run.data.log_mels,
            limit=settings.limit,
        ),
        "diversity": {
            f"{source}->{target}": _diversity_of_translations(run, settings, source, target)
            for source, target in permutations(run.names if labelled else (), 2)
        },
    }


def _diversity_of_translations(
    run: TrainedRun, settings: MeasureSettings, source: str, target: str
) -> dict[str, float | None]:
    content = some_of(run.test[source], settings.limit)
    shared = shared_of(tensor_locs(run.unimodal[source], source, content, run.device))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = decode(run.model, shared, [target])[target]
    judge = class_judges(run, settings)[target]
    right = np.flatnonzero(judged(judge, made, run.device) == content.labels)
    real = some_of(run.test[target], settings.limit, seed=1)
    return diversity(
        made.take(torch.from_numpy(right)),
        _all(real),
        content.labels[right],
        real.labels,
        real.normalisation,
        target in run.data.log_mels,
    )


def _all(examples: Examples) -> Observation:
    return examples.observation(np.arange(len(examples)))


def _within(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Each value minus the mean of its class."""
    _, index = np.unique(classes, return_inverse=True)
    means = np.bincount(index, values) / np.bincount(index)
    return np.asarray(values - means[index])


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """None if one of the two does not vary."""
    if min(a.std(), b.std()) < 1e-9:
        return None
    return float(np.corrcoef(a, b)[0, 1])
