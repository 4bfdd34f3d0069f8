"""Whether what is generated has the style it was given, and how various it is.

Measured on observations alone, by quantities that everybody knows of a hand or a voice, and not
by the model's own latents. Shapes: B examples.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from pvae_pyro.batch import Observation
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.evaluate.judges import judged
from pvae_pyro.evaluate.posterior import posterior_locs
from pvae_pyro.generation import decode, shared_of, style_of

Measures = dict[str, np.ndarray]
_LEAST = 20  # examples that a correlation is taken of


def of_pictures(values: np.ndarray) -> Measures:
    """Slant, width and boldness of pictures ``[B, 1, H, W]``, light ink on black: ``[B]`` each.

    With the moments of ink about its centre, x to the right and y down:

        slant     -μ_xy / μ_yy        shear: 0 upright, positive leaning to the right
        width     sqrt(μ_xx)          in pixels, about half a stroke-weighted breadth
        boldness  Σ ink / area        mean of the pixels, 0 to 1 where these are
    """
    ink = np.clip(values[:, 0], 0, None).astype(np.float64)
    total = np.maximum(ink.sum((1, 2)), 1e-9)
    y, x = np.mgrid[: ink.shape[1], : ink.shape[2]].astype(np.float64)
    x_mean, y_mean = ((ink * axis).sum((1, 2)) / total for axis in (x, y))
    dx, dy = x - x_mean[:, None, None], y - y_mean[:, None, None]
    xx, xy, yy = ((ink * a * b).sum((1, 2)) / total for a, b in ((dx, dx), (dx, dy), (dy, dy)))
    slant = -xy / np.maximum(yy, 1e-9)
    return {"slant": slant, "width": np.sqrt(xx), "boldness": ink.mean((1, 2))}


def of_spectra(values: np.ndarray, lengths: np.ndarray) -> Measures:
    """Duration, loudness and brightness of log energies ``[B, T, F]``: ``[B]`` each.

    duration: frames. loudness: log of the mean energy over frames and filters, in nats.
    brightness: the filter at the centre of the mean energy over frames, 0 to F - 1.
    """
    found: dict[str, list[float]] = {"duration": [], "loudness": [], "brightness": []}
    for value, length in zip(values, lengths, strict=True):
        energy = np.exp(value[:length].astype(np.float64)).mean(0)
        found["duration"].append(float(length))
        found["loudness"].append(float(np.log(energy.mean())))
        found["brightness"].append(float((energy * np.arange(len(energy))).sum() / energy.sum()))
    return {name: np.array(of) for name, of in found.items()}


def measured(
    observation: Observation, normalisation: Normalisation, sound: bool = True
) -> Measures:
    """`of_pictures` or `of_spectra`, of what is normalised.

    sound: that sequences are of log energies; of others there is but the duration. Of anything
    else there is none.
    """
    values = observation.value.detach().cpu().numpy() * normalisation.scale + normalisation.loc
    if observation.lengths is not None:
        lengths = observation.lengths.cpu().numpy()
        return of_spectra(values, lengths) if sound else {"duration": lengths.astype(np.float64)}
    if values.ndim == 4 and values.shape[1] == 1:
        return of_pictures(values / np.max(normalisation.scale))
    return {}


def style_kept(
    model: nn.Module,
    unimodal: Mapping[str, nn.Module],
    test: Mapping[str, Examples],
    device: torch.device | str = "cpu",
    *,
    speaker_judges: Mapping[str, tuple[nn.Module, list[str]]] | None = None,
    sounds: Collection[str] | None = None,
    seed: int = 0,
    limit: int = 500,
) -> dict[str, Any]:
    """Examples given the style of another one of their modality, at random.

    Args:
        speaker_judges: modality -> a classifier of groups (`judges.train_judge`) and the names of
            its classes. sounds: the modalities whose sequences are log energies; None is all
            that are sequences. seed: of the pairs. limit: at most so many.

    Returns modality -> measure -> {"style": correlation (Pearson) of the generated with the
    style's example, "content": with the content's, "reconstruction": of reconstructions with
    their originals}, all within classes: the mean of each value's class (the content's, of what
    is generated) is taken off, as a measure may follow the class alone; and "speaker": {"of_style",
    "of_content": the fraction judged to be that one's, where the two differ (None where they
    never do), "real": of real examples}. Without styles: nothing.
    """
    kept: dict[str, Any] = {}
    rng = np.random.default_rng(seed)
    for name, guide in unimodal.items():
        content = test[name].take(rng.permutation(len(test[name]))[:limit])
        style = test[name].take(rng.permutation(len(test[name]))[: len(content)])
        locs = [
            {site: torch.from_numpy(z).to(device) for site, z in found.items()}
            for found in (posterior_locs(guide, name, of, device) for of in (content, style))
        ]
        own = style_of(locs[1], name)
        if not own or len(content) < _LEAST:
            continue
        made = decode(model, shared_of(locs[0]) | own, [name])[name]
        again = decode(model, locs[0], [name])[name]
        of_content, of_style = (e.observation(np.arange(len(e))) for e in (content, style))
        made_m, again_m, content_m, style_m = (
            measured(x, content.normalisation, sounds is None or name in sounds)
            for x in (made, again, of_content, of_style)
        )
        kept[name] = {
            measure: {
                "style": _correlation(
                    _within(made_m[measure], content.labels),
                    _within(style_m[measure], style.labels),
                ),
                "content": _correlation(
                    *(_within(of[measure], content.labels) for of in (made_m, content_m))
                ),
                "reconstruction": _correlation(
                    *(_within(of[measure], content.labels) for of in (again_m, content_m))
                ),
            }
            for measure in made_m
        }
        if speaker_judges and name in speaker_judges:
            judge, groups = speaker_judges[name]
            kept[name]["speaker"] = _speakers(judge, groups, made, content, style, device)
    return kept


def _speakers(
    judge: nn.Module, groups: list[str], made: Observation, content: Examples, style: Examples,
    device: torch.device | str,
) -> dict[str, float | None]:  # fmt: skip
    names = np.array(groups)
    heard = names[judged(judge, made, device)]
    real = names[judged(judge, style.observation(np.arange(len(style))), device)]
    of_style, of_content = np.array(style.groups), np.array(content.groups)
    other = of_style != of_content
    return {
        "of_style": float((heard == of_style)[other].mean()) if other.any() else None,
        "of_content": float((heard == of_content)[other].mean()) if other.any() else None,
        "real": float((real == of_style).mean()),
    }


def _within(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Less the mean of each value's class."""
    _, of = np.unique(classes, return_inverse=True)
    means = np.bincount(of, values) / np.bincount(of)
    difference: np.ndarray = values - means[of]
    return difference


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """None where one of the two does not vary."""
    if min(a.std(), b.std()) < 1e-9:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def diversity(
    made: Observation,
    real: Observation,
    made_classes: np.ndarray,
    real_classes: np.ndarray,
    normalisation: Normalisation,
    sound: bool = True,
) -> dict[str, float | None]:
    """How much the generated vary within a class, for one unit of how the real ones do.

        (Σ_c sd_c) / (Σ_c sd'_c),  sd_c the standard deviation of a measure in class c

    for each of `measured`, which says what `sound` is: 1 as various as reality, 0 a prototype for
    each class. Classes are of what is generated (leave out what is of the wrong one, which would
    pass for various) and of the real; those with two examples in both count. None if none.
    """
    found: dict[str, float | None] = {}
    both = (
        (measured(made, normalisation, sound), made_classes),
        (measured(real, normalisation, sound), real_classes),
    )
    shared = [c for c in np.unique(made_classes) if min((of == c).sum() for _, of in both) > 1]

    def spread(values: np.ndarray, of: np.ndarray) -> float:
        return sum(float(values[of == c].std()) for c in shared)

    for measure in both[0][0]:
        generated, actual = (spread(values[measure], of) for values, of in both)
        found[measure] = generated / actual if actual > 1e-9 else None
    return found
