"""How near generated examples are to real ones: reconstruction error and Fréchet distance.

Shapes: N examples, D features.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pvae_pyro.batch import Observation
from pvae_pyro.data.examples import Examples
from pvae_pyro.evaluate.judges import class_judges, judge_features
from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun, some_of, tensor_locs
from pvae_pyro.generation import decode, mean_of_observed, sample, shared_of
from pvae_pyro.nn.packing import in_use

_SPLITS = 5  # of the real examples into two halves
_LEAST = 2  # examples that have a covariance


class Moments(NamedTuple):
    """A mean μ ``[D]``, and a covariance Σ = RᵀR by its root R ``[K, D]``, where K may be any."""

    mean: np.ndarray
    root: np.ndarray


def moments_of(features: np.ndarray) -> Moments:
    """Mean and unbiased covariance of ``[N, D]`` features, N at least 2.

    R is the triangle of the QR decomposition of the centred features over √(N − 1).
    """
    features = features.astype(np.float64)
    centred = features - features.mean(0)
    root: Any = np.linalg.qr(centred / np.sqrt(len(features) - 1), mode="r")
    return Moments(features.mean(0), root)


def frechet_distance(one: Moments, other: Moments) -> float:
    """The squared Fréchet distance of two Gaussians (Dowson & Landau 1982).

        ‖μ − μ'‖² + tr(Σ + Σ' − 2 (Σ Σ')^½)

    The trace of (Σ Σ')^½ is the sum of the singular values of R R'ᵀ, so that no root of a number
    near 0 is taken, and nothing is added to covariances, which may be singular.

    The distance of two samples of one distribution is above 0, the more so the fewer they are: only
    distances of equally many examples can be compared.
    """
    difference = one.mean - other.mean
    traces = np.square(one.root).sum() + np.square(other.root).sum()
    cross = np.linalg.svd(one.root @ other.root.T, compute_uv=False).sum()
    return float(difference @ difference + traces - 2 * cross)


def reconstruction_error(
    model: nn.Module,
    guide: nn.Module,
    name: str,
    examples: Examples,
    device: torch.device | str = "cpu",
    chunk: int = 500,
) -> tuple[float, float]:
    """The error of reconstructions from posterior means, and that of the best constant.

        Σ (x − E[x | z = E q_m(z | x)])² / number of coefficients or pixels of all examples

    in normalised units. Reconstructions of sequences have the duration of their originals; padding
    does not count. The best constant is the mean frame, picture or vector of these examples.
    """
    locs = tensor_locs(guide, name, examples, device)
    squares, originals = 0.0, []
    for start in range(0, len(examples), chunk):
        index = np.arange(start, min(start + chunk, len(examples)))
        original = examples.observation(index).to(device)
        latents = {site: value[start : start + chunk] for site, value in locs.items()}
        made = mean_of_observed(model, latents, {name: original})[name]
        rows = _rows(original)
        squares += float(np.square(_rows(made) - rows).sum())
        originals.append(rows)
    observed = np.concatenate(originals)
    return squares / observed.size, float(observed.var(0).mean())


def _rows(observation: Observation) -> np.ndarray:
    """The frames in use, or one row for each example, in double precision."""
    value, lengths = observation.value.cpu().double(), observation.lengths
    if lengths is not None:
        value = value[in_use(lengths.cpu(), value.shape[1]).squeeze(-1)]
    return value.flatten(1).numpy()


def measure(run: TrainedRun, settings: MeasureSettings, seed: int = 0) -> dict[str, Any]:
    """Reconstruction error and Fréchet distance to real test examples.

    The distance is that of the features in the last layer but one of the modality's judge, as FID
    is of Inception's (Heusel et al. 2017, arXiv:1706.08500). All distances of a modality are of the
    same number of examples, `settings.limit` or half of the test partition if that is less, to one
    half of the real examples, and the mean over 5 random halves.

    seed: of the choice, the halves and the draws; the random state does not change.

    Returns modality -> what -> figures:
        "real": distance of the two halves of the real examples, the least that can be expected.
        "reconstruction": distance of reconstructions of the other half; error, as
            `reconstruction_error` of both halves.
        "a->b": distance of translations into that modality, in styles from the prior; if there are
            too few sources, each is translated several times.
        "prior": distance of draws from the prior.
        "constant": error of the best constant.
        "num_examples": of each side.
    or the reason, for fewer than 4 test examples. Without labels there is no judge, so no distance.
    """
    labelled = all(examples.labelled for examples in run.test.values())
    judges = class_judges(run, settings) if labelled else {}
    found: dict[str, Any] = {}
    for name in run.names:
        size = min(settings.limit, len(run.test[name]) // 2)
        if size < _LEAST:
            found[name] = {"reason": f"distances need {2 * _LEAST} test examples"}
            continue
        real = some_of(run.test[name], 2 * size, seed)
        figures: dict[str, Any] = {"reconstruction": {}}
        if labelled:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                distances = _distances(run, judges[name], name, real, seed)
            figures = {what: {"frechet": of} for what, of in distances.items()}
        error, of_constant = reconstruction_error(
            run.model, run.unimodal[name], name, real, run.device
        )
        figures["reconstruction"]["error"] = error
        found[name] = figures | {"constant": {"error": of_constant}, "num_examples": size}
    return found


def _distances(
    run: TrainedRun, judge: nn.Module, name: str, real: Examples, seed: int
) -> dict[str, float]:
    """What -> mean distance to a random half of the real examples."""
    size = len(real) // 2
    model, device = run.model, run.device

    def features(latents: dict[str, Tensor]) -> np.ndarray:
        return judge_features(judge, decode(model, latents, [name])[name], device)

    of_real = judge_features(judge, real.observation(np.arange(len(real))), device)
    reconstructed = features(tensor_locs(run.unimodal[name], name, real, device))
    generated = {}
    for source in (other for other in run.names if other != name):
        content = some_of(run.test[source], size, seed)
        shared = shared_of(tensor_locs(run.unimodal[source], source, content, device))
        again = torch.arange(size, device=device) % len(content)
        generated[f"{source}->{name}"] = features({z: loc[again] for z, loc in shared.items()})
    drawn, _ = sample(model, size, [name])
    generated["prior"] = judge_features(judge, drawn[name], device)
    of_generated = {what: moments_of(of) for what, of in generated.items()}
    distances: dict[str, list[float]] = {}
    rng = np.random.default_rng(seed)
    for _ in range(_SPLITS):
        half, other = np.split(rng.permutation(len(real)), 2)
        of_other = {
            "real": moments_of(of_real[other]),
            "reconstruction": moments_of(reconstructed[other]),
        }
        of_half = moments_of(of_real[half])
        for what, of in {**of_other, **of_generated}.items():
            distances.setdefault(what, []).append(frechet_distance(of_half, of))
    return {what: float(np.mean(of)) for what, of in distances.items()}
