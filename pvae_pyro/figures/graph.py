"""A model's and a guide's graph, read off a run of them; `plate_diagram` draws it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyro
from pyro.infer.inspect import get_model_relations

from pvae_pyro.batch import Batch


@dataclass(frozen=True)
class Graph:
    """Sites of a Pyro program and how they depend on each other.

    parents: site -> the sites that its distribution depends on, in the order they are made.
    families: site -> distribution family; "" for data that a guide is given.
    observed: sites that hold data.
    plates: plate -> its sites.
    inference: the edges are of q, from data to latents; drawn dashed.
    """

    parents: Mapping[str, tuple[str, ...]]
    families: Mapping[str, str]
    observed: frozenset[str]
    plates: Mapping[str, tuple[str, ...]]
    inference: bool = False

    @property
    def edges(self) -> set[tuple[str, str]]:
        return {(parent, site) for site, parents in self.parents.items() for parent in parents}


def model_graph(model: Any, batch: Batch, **kwargs: Any) -> Graph:
    """The graph of ``model(batch, observed=…)``, by Pyro's `get_model_relations`.

    An edge means that a site's log density is computed from the other's value (Pyro follows the
    values through the networks), so an edge may be there whose weights happen to be zero. Edges
    are those of generating, nothing observed: given the data, a dependence between two observed
    sites could not be seen. Deterministic sites are passed through. Neither the parameters, the
    parameter store nor the random state change.

    Args: kwargs go to the model. Raises ValueError for a model without a sample site.
    """
    generating = _relations(model, batch, observed=(), **kwargs)
    conditioned = _relations(model, batch, **kwargs)
    families = {
        site: family
        for site, family in generating["sample_dist"].items()
        if family != "Deterministic"
    }
    if not families:
        raise ValueError("the model has no sample site: there is no graph to draw")
    return _graph(generating, families, frozenset(conditioned["observed"]) & families.keys())


def guide_graph(guide: Any, batch: Batch, **kwargs: Any) -> Graph:
    """The graph of ``guide(batch)``: which latents' q depends on which modality's data.

    A guide's data are arguments and no sites, so Pyro does not see them. For this run they
    become deterministic sites, named as their modalities; those that feed nothing are left out.
    Otherwise as `model_graph`.
    """

    def program(batch: Batch) -> None:
        guide(
            {
                name: replace(data, value=pyro.deterministic(name, data.value))
                for name, data in batch.items()
            },
            **kwargs,
        )

    relations = _relations(program, batch, include_deterministic=True)
    latents = {
        site: family
        for site, family in relations["sample_dist"].items()
        if site not in batch and family != "Deterministic"
    }
    if not latents:
        raise ValueError("the guide has no sample site: there is no graph to draw")
    used = {parent for site in latents for parent in relations["sample_sample"][site]}
    data = [name for name in batch if name in used]
    # Data are outside the guide's plates, which it opens itself; they belong where it is used.
    for sites in relations["plate_sample"].values():
        for name in data:
            fed = {s for s, parents in relations["sample_sample"].items() if name in parents}
            if fed <= set(sites):
                sites.append(name)
    graph = _graph(relations, {**dict.fromkeys(data, ""), **latents}, frozenset(data))
    return replace(graph, inference=True)


def _relations(
    program: Any, batch: Batch, include_deterministic: bool = False, **kwargs: Any
) -> dict[str, Any]:
    with pyro.get_param_store().scope():
        return get_model_relations(program, (batch,), kwargs, include_deterministic)


def _graph(relations: Any, families: dict[str, str], observed: frozenset[str]) -> Graph:
    return Graph(
        {
            site: tuple(p for p in relations["sample_sample"][site] if p in families)
            for site in families
        },
        families,
        observed,
        {
            plate: tuple(site for site in sites if site in families)
            for plate, sites in relations["plate_sample"].items()
        },
    )
