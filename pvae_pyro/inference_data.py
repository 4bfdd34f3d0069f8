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

from pvae_pyro.batch import Batch, batch_size
from pvae_pyro.data.examples import Normalisation

SEQUENCE = ("frame", "bin")  # names of the dimensions of an event
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
        posterior_predictive  x_k ~ p(x | z_k), including the noise of the observation
        log_likelihood        log p(x | z_k) of every observed site, in nats, summed over its event
        prior                 z_k ~ p(z), K draws beside each example
        prior_predictive      x_k ~ p(x | z_k) of these
        observed_data         x
        constant_data         only with `normalisations`

    Dimensions: ``chain`` (always 1), ``draw``, ``example``, and by the event of a site
    ``<site>_dim`` of a vector, ``<site>_channel``, ``_row``, ``_column`` of a picture and
    ``<site>_frame``, ``_bin`` of a sequence. Sequences are NaN past their own end. All values are
    normalised, as in the batch, and the log-likelihoods are densities of normalised values.

    The draws are independent and from the guide, *not* from the posterior, so R-hat and effective
    sample sizes say nothing; `pvae_pyro.evaluate.pareto.pareto_k` says how far the two
    are apart. The networks' weights are at their estimates.

    All K B rows are in memory, twice for a moment. The random state and the parameter store do not
    change.

    Args:
        model: called as ``model(batch, names=names)`` to score, without a batch to generate.
        guide: called as ``guide(batch)``, with the whole batch. With a unimodal guide, what it
            predicts of the other modalities are translations.
        names: modalities to predict and score; all of the batch by default.
        seed: fixes the result, with the same batch and chunk.
        coords: dimension -> its values, as many as it has; of frames perhaps more.
        normalisations: modality -> x = loc + scale · normalised, for constant_data as
            ``<site>_normalisation_loc`` and ``_scale``, of the site's last dimension.
        chunk: rows that the networks see at a time.

    Raises ValueError if a modality is not in the batch.

    Source: https://python.arviz.org/en/stable/schema/schema.html
    """
    names = tuple(batch if names is None else names)
    if missing := {*names, *(normalisations or ())} - batch.keys():
        raise ValueError(f"not in the batch: {sorted(missing)}; there are {sorted(batch)}")
    size = batch_size(batch)
    step = max(1, chunk // num_samples)
    parts: list[Groups] = []
    sequences: set[str] = set()
    with torch.random.fork_rng(), pyro.get_param_store().scope():
        torch.manual_seed(seed)
        for start in range(0, size, step):
            some = {name: one.part(start, start + step) for name, one in batch.items()}
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
    """The sample sites that are neither plates nor `pyro.deterministic`."""
    nodes: Any = prune_subsample_sites(trace).nodes
    return {
        site: node
        for site, node in nodes.items()
        if node["type"] == "sample" and not node["infer"].get("_deterministic")
    }


def _array(node: Mapping[str, Any], sequences: set[str], draws: bool = True) -> np.ndarray:
    """``[K, B, ...]``, or ``[B, ...]``; sequences are cut to the longest, and padded with NaN."""
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
    events: dict[str, np.ndarray] = {}
    for part in parts:
        for group, variables in part.items():
            for site, values in variables.items() if group != "log_likelihood" else ():
                event = np.array(values.shape[1 if group == "observed_data" else 2 :], int)
                events[site] = np.maximum(event, events.get(site, event))
    joined: Groups = {}
    for group in parts[0]:
        joined[group] = {}
        axis = 0 if group == "observed_data" else 1
        for site in sorted(parts[0][group]):
            pieces = []
            for part in parts:
                piece = part[group].pop(site)
                own = piece.shape[axis + 1 :]
                missing = np.zeros(0, int) if group == "log_likelihood" else events[site] - own
                widths = [(0, 0)] * (axis + 1) + [(0, int(more)) for more in missing]
                any_missing = missing.any()
                pieces.append(
                    np.pad(piece, widths, constant_values=np.nan) if any_missing else piece
                )
            whole = np.concatenate(pieces, axis)
            joined[group][site] = whole if group == "observed_data" else whole[None]
    return joined


def _coords(sizes: Mapping[str, int], given: Mapping[str, Iterable[Any]]) -> dict[str, Any]:
    """Values of each dimension; of frames, the first of those given."""
    coords: dict[str, Any] = {dim: np.arange(size) for dim, size in sizes.items()}
    for dim, values in given.items():
        coords[dim] = np.asarray(list(values))
        if dim.endswith("_frame"):
            coords[dim] = coords[dim][: sizes[dim]]
    return coords


def import_arviz() -> Any:
    """ArviZ, which takes a second to import, without its announcement of 1.0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    return arviz


def is_before_1(arviz: Any) -> bool:
    """Whether ArviZ has its interface of before 1.0."""
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
