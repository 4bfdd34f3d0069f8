"""A model and a guide on some examples, as ArviZ has them: draws, predictions, log-likelihoods.

Shapes: B examples of a batch, K draws, T frames, F features of a frame.
"""

import os
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import Predictive
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from pvae_pyro.batch import Batch, Observation, batch_size
from pvae_pyro.data.examples import Normalisation

SEQUENCE = ("frame", "bin")  # what dimensions of an event are called
ENDS: dict[int, tuple[str, ...]] = {1: ("dim",), 3: ("channel", "row", "column")}
Groups = dict[str, dict[str, np.ndarray]]


@torch.no_grad()
def inference_data(
    model: nn.Module,
    guide: nn.Module,
    batch: Batch,
    *,
    num_samples: int = 50,
    names: Collection[str] | None = None,
    seed: int = 0,
    coords: Mapping[str, Iterable[Any]] | None = None,
    normalisations: Mapping[str, Normalisation] | None = None,
    chunk: int = 500,
) -> Any:
    """ArviZ's object of these examples: `InferenceData` before 1.0, xarray's `DataTree` since.

        posterior             z_k ~ q(z | x); what the guide does not infer, from p(z)
        posterior_predictive  x_k ~ p(x | z_k), the noise of the observation included
        log_likelihood        log p(x | z_k) of every observed site, in nats, summed over its event
        prior                 z_k ~ p(z), K draws beside each example
        prior_predictive      x_k ~ p(x | z_k) of these
        observed_data         x
        constant_data         only with `normalisations`

    Dimensions: ``chain`` (always 1), ``draw``, ``example``, and of a site what its event is:
    ``<site>_dim`` of a vector, ``<site>_channel``, ``_row``, ``_column`` of a picture and
    ``<site>_frame``, ``_bin`` of a sequence. Sequences end with the last frame that any of them
    has, and are NaN past their own end, so that nothing averages padding. All values are as in
    the batch, after normalisation that is, which the log-likelihoods are densities of.

    The draws are independent, and each example has latents of its own: there is one chain, and
    neither R-hat nor an effective sample size of chains, nor sample_stats, says anything. They are
    *not* draws from the posterior but from the guide; how far the two are apart is what
    `pvae_pyro.figures.criticism.pareto_k` tells. The networks' weights are at their estimates.

    All K B rows are held, twice over for a moment; the networks see `chunk` of them at a time (K
    at least). The random state and the param store are left as they were.

    Args:
        model: called as ``model(batch, names=names)`` to score, without a batch to generate.
        guide: called as ``guide(batch)``, with the whole batch; a unimodal one infers from its
            modality alone, and the other is then a translation.
        names: modalities to predict and score; all of the batch by default.
        seed: fixes the result, with the same batch and chunk.
        coords: dimension -> its values, as many as it has; of frames also more. Else 0, 1, ….
        normalisations: modality -> x = loc + scale · normalised, to go into constant_data as
            ``<site>_normalisation_loc`` and ``_scale``, of the site's last dimension.

    Raises ValueError if a modality is not in the batch, a dimension of `coords` is unknown or of
    another size, or there is no draw.

    Source: https://python.arviz.org/en/stable/schema/schema.html
    """
    names = tuple(batch if names is None else names)
    if missing := {*names, *(normalisations or ())} - batch.keys():
        raise ValueError(f"not in the batch: {sorted(missing)}; there are {sorted(batch)}")
    size = batch_size(batch)
    if size < 1 or num_samples < 1:
        raise ValueError(f"{num_samples} draws of {size} examples: both must be positive")
    step = max(1, chunk // num_samples)
    parts: list[Groups] = []
    sequences: set[str] = set()
    with torch.random.fork_rng(), pyro.get_param_store().scope():
        torch.manual_seed(seed)
        for start in range(0, size, step):
            rows = slice(start, start + step)
            some = {
                name: Observation(
                    one.value[rows], None if one.lengths is None else one.lengths[rows]
                )
                for name, one in batch.items()
            }
            parts.append(_of_chunk(model, guide, some, names, num_samples, sequences))
    groups = _joined(parts)
    dims, sizes = {}, {"example": size}
    for group, leading in (("posterior", 3), ("observed_data", 1)):  # chain, draw, example
        for site, values in groups[group].items():
            event = values.shape[leading:]
            ends = SEQUENCE if site in sequences else ENDS.get(len(event))
            ends = ends or tuple(f"dim_{n}" for n in range(len(event)))
            dims[site] = ["example", *(f"{site}_{end}" for end in ends)]
            sizes |= dict(zip(dims[site][1:], event, strict=True))
    for name, normalisation in (normalisations or {}).items():
        for what in ("loc", "scale"):
            values = np.atleast_1d(getattr(normalisation, what))
            values = np.broadcast_to(values, (*values.shape[:-1], sizes[dims[name][-1]]))
            variable = f"{name}_normalisation_{what}"
            groups.setdefault("constant_data", {})[variable] = values
            dims[variable] = dims[name][len(dims[name]) - values.ndim :]
    return _from_dict(groups, dims, _coords(sizes, coords or {}))


def _of_chunk(
    model: nn.Module,
    guide: nn.Module,
    batch: Batch,
    names: Collection[str],
    num_samples: int,
    sequences: set[str],
) -> Groups:
    """The groups of a few examples, without chains; adds to `sequences` the sites that are."""
    inferred = Predictive(guide, num_samples=num_samples, parallel=True)(batch)
    observed = {name: batch[name] for name in names}
    with pyro.plate("draws", num_samples, dim=-2), poutine.condition(data=inferred):
        scored: Any = poutine.trace(model).get_trace(observed, names=names)
    scored.compute_log_prob()
    data: dict[str, Any] = {}
    latents: dict[str, Any] = {}
    for site, node in _random_sites(scored).items():
        known = node["is_observed"] and site not in inferred
        (data if known else latents)[site] = node
    # Of modalities that are not asked for, the model has no latent; the guide has.
    z: dict[str, Tensor] = inferred | {site: node["value"] for site, node in latents.items()}
    ask = {"names": names, "num_examples": batch_size(batch)}
    given_z = _random_sites(Predictive(model, z, parallel=True).get_vectorized_trace(**ask))
    prior = Predictive(model, num_samples=num_samples, parallel=True).get_vectorized_trace(**ask)
    free = _random_sites(prior)
    return {
        "posterior": {site: value.numpy(force=True) for site, value in z.items()},
        "posterior_predictive": {site: _array(given_z[site], sequences) for site in data},
        "log_likelihood": {
            site: scale_and_mask(node["unscaled_log_prob"], mask=node["mask"]).numpy(force=True)
            for site, node in data.items()
        },
        "prior": {site: free[site]["value"].numpy(force=True) for site in latents},
        "prior_predictive": {site: _array(free[site], sequences) for site in data},
        "observed_data": {site: _array(node, sequences, False) for site, node in data.items()},
    }


def _random_sites(trace: Any) -> dict[str, Any]:
    """Neither plates nor `pyro.deterministic`."""
    nodes: Any = prune_subsample_sites(trace).nodes
    return {
        site: node
        for site, node in nodes.items()
        if node["type"] == "sample" and not node["infer"].get("_deterministic")
    }


def _array(node: Mapping[str, Any], sequences: set[str], draws: bool = True) -> np.ndarray:
    """``[K, B, ...]``, or ``[B, ...]``; sequences end with the longest, and are NaN past theirs."""
    value, lengths = node["value"], getattr(node["fn"], "lengths", None)
    if lengths is not None:
        sequences.add(node["name"])
        if not draws:
            lengths = lengths.reshape(-1, lengths.shape[-1])[0]
        value = value[..., : int(lengths.max()), :]
        frames = torch.arange(value.shape[-2], device=value.device)
        used = frames < lengths.to(value.device).unsqueeze(-1)
        value = value.masked_fill(~used.unsqueeze(-1), torch.nan)
    return value.numpy(force=True)


def _joined(parts: list[Groups]) -> Groups:
    """Chunks end to end, with a chain; events of a site get one size in all groups, by NaN."""
    events: dict[str, tuple[int, ...]] = {}
    for part in parts:
        for group, variables in part.items():
            for site, values in variables.items() if group != "log_likelihood" else ():
                event = values.shape[1 if group == "observed_data" else 2 :]
                events[site] = tuple(np.maximum(event, events.get(site, event)).tolist())
    joined: Groups = {}
    for group in parts[0]:
        joined[group] = {}
        for site in sorted(parts[0][group]):
            pieces = [part[group].pop(site) for part in parts]
            axis = 0 if group == "observed_data" else 1
            event = () if group == "log_likelihood" else events[site]
            size = sum(piece.shape[axis] for piece in pieces)
            whole = np.full((*pieces[0].shape[:axis], size, *event), np.nan, pieces[0].dtype)
            start = 0
            for piece in pieces:
                rows = slice(start, start := start + piece.shape[axis])
                inside = (slice(None),) * axis + (rows, *map(slice, piece.shape[axis + 1 :]))
                whole[inside] = piece
            joined[group][site] = whole if group == "observed_data" else whole[None]
    return joined


def _coords(sizes: Mapping[str, int], given: Mapping[str, Iterable[Any]]) -> dict[str, Any]:
    """Values of each dimension; of frames, the first of those given."""
    if unknown := given.keys() - sizes.keys():
        raise ValueError(f"no dimension {sorted(unknown)}: there are {sorted(sizes)}")
    coords = {dim: np.arange(size) for dim, size in sizes.items()}
    for dim, some in given.items():
        values, size = np.asarray(list(some)), sizes[dim]
        if len(values) < size or (len(values) > size and not dim.endswith("_frame")):
            raise ValueError(f"{dim} has {size} values, and {len(values)} coordinates were given")
        coords[dim] = values[:size]
    return coords


def import_arviz() -> Any:
    """ArviZ, imported where it is used, for it takes a second, and without its news of 1.0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    return arviz


def is_before_1(arviz: Any) -> bool:
    """Of ArviZ, whose interface is another since."""
    return int(arviz.__version__.split(".")[0]) < 1


def _from_dict(groups: Groups, dims: Mapping[str, list[str]], coords: Mapping[str, Any]) -> Any:
    arviz = import_arviz()
    if is_before_1(arviz):
        return arviz.from_dict(**groups, dims=dims, coords=coords)
    return arviz.from_dict(groups, dims=dims, coords=coords)


def write_netcdf(data: Any, path: Path) -> None:
    """Write all of it or, on any failure, nothing; ``arviz.from_netcdf(path)`` reads it again."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        data.to_netcdf(str(temporary), engine="h5netcdf")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
