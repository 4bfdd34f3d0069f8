"""Examples whose pairs are known: row r of an array of indices is one example of all modalities.

Shapes: R rows, N examples of a modality.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pvae_pyro.data.examples import Examples

Pairs = dict[str, np.ndarray]  # modality -> [R] indices of its examples, -1: missing


def check_pairs(pairs: Mapping[str, np.ndarray], examples: Mapping[str, Examples]) -> None:
    """Raise ValueError unless `pairs` are rows of these examples, each with a modality."""
    if pairs.keys() != examples.keys() or len({index.shape for index in pairs.values()}) > 1:
        raise ValueError(f"pairs need an index array of one length for each of {list(examples)}")
    for name, index in pairs.items():
        if index.size and not (index.min() >= -1 and index.max() < len(examples[name])):
            raise ValueError(f"pairs: an index is not of the {len(examples[name])} {name} examples")
    if not np.logical_or.reduce([index >= 0 for index in pairs.values()]).all():
        raise ValueError("pairs: a row has no modality at all")


def take_rows(
    examples: Mapping[str, Examples], pairs: Mapping[str, np.ndarray], rows: np.ndarray
) -> tuple[dict[str, Examples], Pairs]:
    """The rows at `rows`, and the examples that are in them; no other example is kept."""
    kept, found = {}, {}
    for name, of in examples.items():
        index = pairs[name][rows]
        used = np.unique(index[index >= 0])
        # Values are most of the memory: copied only where some are left out.
        kept[name] = of if len(used) == len(of) else of.take(used)
        found[name] = np.where(index >= 0, np.searchsorted(used, index), -1)
    return kept, found


def with_labels_of_rows(
    examples: Mapping[str, Examples], pairs: Mapping[str, np.ndarray], labels: np.ndarray
) -> dict[str, Examples]:
    """The examples with the class indices ``[R]`` of their rows; without a row, -1."""
    found = {}
    for name, of in examples.items():
        there, classes = pairs[name] >= 0, np.full(len(of), -1)
        classes[pairs[name][there]] = labels[there]
        found[name] = replace(of, labels=classes)
    return found


def labels_of_rows(examples: Mapping[str, Examples], pairs: Mapping[str, np.ndarray]) -> np.ndarray:
    """The class index of each row, ``[R]``: that of its examples, of which all have the same."""
    labels = np.full(len(next(iter(pairs.values()))), -1)
    for name, index in pairs.items():
        there = index >= 0
        labels[there] = examples[name].labels[index[there]]
    return labels


def connected(pairs: Iterable[np.ndarray]) -> np.ndarray:
    """Numbers of the groups of rows that share examples, directly or through other rows: ``[R]``.

    pairs: index arrays ``[R]`` of modalities, or of anything else that rows share; -1: nothing.
    """
    rows, shared, start = [], [], 0
    arrays = list(pairs)
    for index in arrays:
        there = np.flatnonzero(index >= 0)
        rows.append(there)
        shared.append(len(index) + start + index[there])
        start += int(index.max(initial=-1)) + 1
    size = len(arrays[0]) + start
    edges = np.concatenate(rows), np.concatenate(shared)
    graph = coo_matrix((np.ones(len(edges[0])), edges), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1][: len(arrays[0])])
