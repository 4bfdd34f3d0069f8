"""Fit the priors to the posteriors after training, and take the content out of the styles.

Training leaves the posteriors of z_sem in clusters, far from the prior N(0, I), so a draw from
N(0, I) belongs to no class. With everything else fixed, the prior that maximises the ELBO is the
one that maximises E[log p(z)] over the posteriors of the training examples (for them: the bound of
people whom the model has not heard may fall). Here it is a Gaussian
mixture, fitted by EM to draws from the multimodal posterior (an ex-post density estimate: Ghosh et
al. 2020, arXiv:1903.12436; see also Dai & Wipf 2019, arXiv:1903.05789). No label is used but for
the pairs in the batches.

A style still says something about the content, because decoders profit from it. Within the styles
that go with a component k of z_sem, the means have a mean z̄ + b_k and a covariance S_k; let T be
the mean of the S_k, weighted by the number of examples. A map moves the means' part, and some of
the covariances', from the style into the decoder. It takes N(z̄, T) to N(z̄ + b_k, (S_k + T) / 2),
and for each component it is the one that moves points least (optimal transport: Olkin & Pukelsheim
1982; Peyré & Cuturi 2019, Remark 2.31, arXiv:1803.00567):

    f_m(z_sem, z) = z̄ + Σ_k p(k | z_sem) (b_k + C_k (z - z̄))           (`StyleMap`)
    C_k takes T to (S_k + T) / 2                                        (`transport`)
    E[z'_m | x] = f_m^{-1}(E[z_sem | x], E[z_m | x]), of the same scale  in the guide
    p(x^m | z_sem, f_m(z_sem, z'_m))                                     in the decoder

So the model stays the paper's (Eqs. 1, 2 and 6) with other networks, reconstructions from the means
of the multimodal guide stay as they were, and a style of another example arrives at the decoder
among the styles that go with the content. Each unimodal guide has maps of its own, from its own
posteriors. `confused` components share one map.

Shapes: N examples, K components, D dimensions of z_sem, E of a style.
"""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.poutine.util import prune_subsample_sites
from scipy.sparse.csgraph import connected_components
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as FittedMixture
from torch import Tensor, nn

from pvae_pyro.batch import Batch
from pvae_pyro.evaluate.mixture import overlaps
from pvae_pyro.models.priors import GaussianMixture
from pvae_pyro.nn.style_map import StyleMap
from pvae_pyro.objective.sites import is_partial, sample_sites

# Numbers of components to try, until BIC has become worse twice in a row.
NUM_COMPONENTS = (1, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100)
MOST_EXAMPLES = 20_000
CONFUSED = 0.05
_PARTS = ("weights", "loc", "scale")
_MAP = ("loc", "offsets", "linear")

Posteriors = dict[str, dict[str, np.ndarray]]  # site -> "loc" and "draw", [N, D]; "present", [N]


def fit_mixture(draws: np.ndarray, seed: int = 0) -> dict[str, Tensor]:
    """Weights ``[K]``, means and standard deviations ``[K, D]`` of a diagonal Gaussian mixture.

    Fitted by EM (scikit-learn, one start by k-means) to draws ``[N, D]``. K is one of
    `NUM_COMPONENTS`, at most N / 10, with the least Bayesian information criterion.
    """
    best, rises = None, 0
    for number in NUM_COMPONENTS:
        if number > max(1, len(draws) // 10) or rises == 2:
            break
        mixture = FittedMixture(
            number, covariance_type="diag", reg_covar=1e-4, max_iter=300, random_state=seed
        )
        with warnings.catch_warnings():  # a fit that has not converged is a worse one, no error
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(draws)
        criterion = mixture.bic(draws)
        rises = 0 if best is None or criterion < best[0] else rises + 1
        best = best if rises else (criterion, mixture)
    assert best is not None
    fitted = best[1]
    parts = (fitted.weights_, fitted.means_, np.sqrt(fitted.covariances_))
    return {name: torch.as_tensor(x).float() for name, x in zip(_PARTS, parts, strict=True)}


def fit(guide: Any, batches: Iterable[Batch], seed: int = 0) -> dict[str, Tensor]:
    """The tensors that `install` needs, from the posteriors of training batches.

    At most `MOST_EXAMPLES` examples are used. Raises ValueError if the guide was fitted before.

    Returns "prior.weights", "prior.loc" and "prior.scale" for the shared latent and, for a
    modality m with a style, the same under "style.m.", and the arguments of `StyleMap` under
    "map.m." (of the multimodal guide and the decoder) and "unimodal_map.m." (of its own guide).
    """
    if getattr(getattr(guide, "multimodal", guide), "style_maps", None):
        raise ValueError("the guide has been fitted already: fit one that was loaded without it")
    of_all, of_one = _posteriors(guide, batches)
    shared = next(iter(of_all))
    fitted = _named("prior", fit_mixture(of_all[shared]["draw"], seed))
    mixture = _mixture(fitted, "prior", of_all[shared]["loc"].shape[1])
    groups = confused(_responsibilities(mixture, of_all[shared]["draw"]))
    for name, own in of_one.items():
        if (site := f"z_style_{name}") not in of_all:
            continue
        for place, of in (("map", of_all), ("unimodal_map", own)):
            shares = _responsibilities(mixture, of[shared]["loc"]) @ groups
            fitted |= _named(f"{place}.{name}", fit_style_map(shares, groups, of[site]))
        style_map = StyleMap(mixture, *(fitted[f"map.{name}.{part}"] for part in _MAP))
        draws = _without_content(style_map, of_all[shared]["loc"], of_all[site])
        fitted |= _named(f"style.{name}", fit_mixture(draws, seed))
    return fitted


@torch.no_grad()
def _without_content(
    style_map: StyleMap, z_sem: np.ndarray, styles: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Draws of a style whose means the inverse of the map has moved, where it is present."""
    loc, draws, z_sem = (x[styles["present"]] for x in (styles["loc"], styles["draw"], z_sem))
    moved = style_map.inverse(torch.as_tensor(z_sem), torch.as_tensor(loc)).numpy()
    return np.asarray(draws - loc + moved)


def confused(responsibilities: np.ndarray) -> np.ndarray:
    """Components among which draws of z_sem move, from ``[N, K]`` responsibilities of draws.

    Two components belong together if at least `CONFUSED` of the points of one are taken for the
    other (`overlaps`), and so do those that are connected by such pairs. Otherwise a style would
    change with a draw of z_sem within a class. Returns ``[K, G]``, 1 where k is in group g.
    """
    number, groups = connected_components(overlaps(responsibilities) >= CONFUSED)
    return np.asarray(np.eye(number)[groups])


def fit_style_map(
    shares: np.ndarray, groups: np.ndarray, styles: Mapping[str, np.ndarray]
) -> dict[str, Tensor]:
    """The arguments of `StyleMap`, from the means of a style.

    shares: the groups' responsibilities ``[N, G]``. groups: of components, ``[K, G]``.

    The covariance of a group is estimated with E examples' worth of T, so that a group of few
    examples keeps a map near the identity.
    """
    shares, loc = shares[styles["present"]], styles["loc"][styles["present"]].astype(float)
    offsets = regression(shares, loc)
    rest = loc - loc.mean(0) - shares @ offsets
    sums = np.stack([(rest * share[:, None]).T @ rest for share in shares.T])  # [G, E, E]
    size = loc.shape[1]
    pooled = sums.sum(0) / len(loc)
    pooled += 1e-6 * max(pooled.trace() / size, 1e-6) * np.eye(size)  # must have an inverse
    counts = shares.sum(0)[:, None, None]
    of_groups = (sums + size * pooled) / (counts + size)
    linear = np.stack([transport(pooled, (s + pooled) / 2) for s in of_groups])
    parts = (loc.mean(0), groups @ offsets, linear[groups.argmax(1)])
    return {name: torch.as_tensor(x).float() for name, x in zip(_MAP, parts, strict=True)}


def transport(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """C ``[E, E]``, symmetric, with C source C = target: both positive definite covariances.

    It is T^{-1/2} (T^{1/2} S T^{1/2})^{1/2} T^{-1/2} for a source T and a target S.
    """
    root, inverse = _power(source, 0.5), _power(source, -0.5)
    return np.asarray(inverse @ _power(root @ target @ root, 0.5) @ inverse)


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors * values.clip(1e-12 * values.max()) ** exponent @ vectors.T)


def regression(shares: np.ndarray, loc: np.ndarray) -> np.ndarray:
    """The regression of styles ``[N, E]`` on the groups' responsibilities ``[N, G]``: ``[G, E]``.

        argmin_B Σ_n ‖z_n - z̄ - Σ_g p(g | x_n) B_g‖² + 0.1 ‖B‖²

    If each example belongs to one group, B_g is that group's mean style less the mean of all; what
    is left of a style is not correlated with the responsibilities. The second term keeps the offset
    of a group without examples at 0.
    """
    centred = loc - loc.mean(0)
    gram = shares.T @ shares + 0.1 * np.eye(shares.shape[1])
    return np.asarray(np.linalg.solve(gram, shares.T @ centred))


def install(model: Any, guide: Any, fitted: Mapping[str, Tensor]) -> None:
    """Give the model its fitted priors, and model and guide the maps of the styles.

    Raises ValueError if the tensors do not fit the model.
    """
    device = next(model.parameters()).device
    fitted = {name: tensor.to(device) for name, tensor in fitted.items()}
    prior = _mixture(fitted, "prior", *model.prior().event_shape).to(device)
    model.prior = prior
    for name in getattr(model, "style_priors", ()):
        style_prior = _mixture(fitted, f"style.{name}", model.style_dim).to(device)
        of_all = _style_map(fitted, f"map.{name}", prior, model.style_dim)
        model.style_priors[name], model.style_maps[name] = style_prior, of_all
        guide.multimodal.style_maps[f"z_style_{name}"] = of_all
        of_one = _style_map(fitted, f"unimodal_map.{name}", prior, model.style_dim)
        guide.unimodal[name].style_maps[f"z_style_{name}"] = of_one


@torch.no_grad()
def _posteriors(guide: Any, batches: Iterable[Batch]) -> tuple[Posteriors, dict[str, Posteriors]]:
    """Of the multimodal guide, and modality -> of its own guide."""
    of_all: dict[str, Any] = {}
    of_one: dict[str, dict[str, Any]] = {name: {} for name in guide.unimodal}
    num_examples = 0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for batch in batches:
            _collect(of_all, guide, batch)
            for name, own in of_one.items():
                _collect(own, guide.unimodal[name], batch)
            num_examples += len(next(iter(batch.values())).value)
            if num_examples >= MOST_EXAMPLES:
                break
    return _concatenated(of_all), {name: _concatenated(own) for name, own in of_one.items()}


def _collect(found: dict[str, Any], guide: nn.Module, batch: Batch) -> None:
    with pyro.get_param_store().scope():
        trace: Any = prune_subsample_sites(poutine.trace(guide).get_trace(batch))
    for name, site in sample_sites(trace).items():
        size = len(site["value"])
        present = site["mask"].expand(size) if is_partial(site) else torch.ones(size).bool()
        parts = {"loc": site["fn"].mean, "draw": site["value"], "present": present}
        for part, tensor in parts.items():
            found.setdefault(name, {}).setdefault(part, []).append(tensor.cpu().numpy())


def _concatenated(found: dict[str, Any]) -> Posteriors:
    return {
        site: {part: np.concatenate(arrays) for part, arrays in parts.items()}
        for site, parts in found.items()
    }


@torch.no_grad()
def _responsibilities(mixture: GaussianMixture, z: np.ndarray) -> np.ndarray:
    return mixture.responsibilities(torch.as_tensor(z)).numpy()


def _named(name: str, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{part}": tensor for part, tensor in parts.items()}


def _parts(fitted: Mapping[str, Tensor], name: str, parts: Iterable[str]) -> list[Tensor]:
    try:
        return [fitted[f"{name}.{part}"] for part in parts]
    except KeyError as error:
        raise ValueError(f"there is no tensor {error}") from error


def _style_map(
    fitted: Mapping[str, Tensor], name: str, prior: GaussianMixture, dim: int
) -> StyleMap:
    number = len(prior.loc)
    earlier = fitted.get(name.replace("map", "offset", 1))
    if earlier is None or f"{name}.loc" in fitted:
        tensors = _parts(fitted, name, _MAP)
    else:  # a run of before 28 November 2026, which has the means alone
        tensors = [earlier.new_zeros(dim), earlier, torch.eye(dim).to(earlier).repeat(number, 1, 1)]
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if shapes != [(dim,), (number, dim), (number, dim, dim)]:
        raise ValueError(
            f"{name} has the shapes {shapes}; the style has {dim} dimensions, and the prior of "
            f"the shared latent {number} components"
        )
    return StyleMap(prior, *tensors)


def _mixture(fitted: Mapping[str, Tensor], name: str, dim: int) -> GaussianMixture:
    mixture = GaussianMixture.of(*_parts(fitted, name, _PARTS))
    if mixture.loc.shape[1] != dim:
        raise ValueError(f"{name} has {mixture.loc.shape[1]} dimensions, and the model {dim}")
    return mixture
