"""Where to put the nodes of a small directed acyclic graph so that its edges are easy to follow."""

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np

# Costs; an edge's own is its squared run. The last is of what would be false, not just ugly.
CROSSING, THROUGH_NODE, IN_BOX = 10.0, 30.0, 1e6
STARTS = 8


def layered_layout(
    parents: Mapping[str, Collection[str]], boxes: Mapping[str, Collection[str]]
) -> dict[str, tuple[int, int]]:
    """Node -> (slot, row): slots from the left, neighbours at least 2 apart; rows from the top.

    A node's row is the longest path to it; nodes that lead nowhere go to the last row. Within
    the rows, nodes move and swap for as long as that lowers the number of crossings, of edges
    through nodes, and of nodes within the bounds of a box (name -> its nodes) that is not
    theirs, or else shortens the edges. The best of a few starts, the same ones at each call;
    of it and its mirrored order, that with the last row more in the order given.

    Raises ValueError for a graph with a cycle, and where some node stays in another's box.
    """
    rows = _rows(parents)
    index = {node: n for n, node in enumerate(parents)}
    row = np.array([rows[node] for node in parents])
    in_row = [np.flatnonzero(row == r) for r in range(row.max() + 1)]
    edges = np.array(
        [(index[parent], index[node]) for node in parents for parent in parents[node]], int
    ).reshape(-1, 2)
    cost_of = _Cost(row, edges, [[index[node] for node in nodes] for nodes in boxes.values()])

    rng = np.random.default_rng(0)
    found = []
    for start in range(STARTS):
        slots = _parents_by_children(in_row, edges) if start == 0 else _shuffled(in_row, rng)
        cost, before = cost_of(slots), np.inf
        while cost < before:
            before = cost
            for moved in _moves(slots, in_row):
                if (lower := cost_of(moved)) < cost:
                    cost, slots = lower, moved
                    break
        found.append((cost, slots))
    cost, slots = min(found, key=lambda one: one[0])
    if cost >= IN_BOX:
        raise ValueError(f"found no layout without foreign nodes in a box of {dict(boxes)}")
    turned = sum(np.sign(slots[a] - slots[b]) for a, b in combinations(in_row[-1], 2)) > 0
    return {
        node: (int(-slot if turned else slot), rows[node])
        for node, slot in zip(parents, slots, strict=True)
    }


def _rows(parents: Mapping[str, Collection[str]]) -> dict[str, int]:
    rows: dict[str, int] = {}
    while len(rows) < len(parents):
        ready = [n for n in parents if n not in rows and all(p in rows for p in parents[n])]
        if not ready:
            raise ValueError(f"a cycle, or an unknown parent, of {sorted({*parents} - {*rows})}")
        rows |= {n: 1 + max((rows[p] for p in parents[n]), default=-1) for n in ready}
    last = max(rows.values(), default=0)
    leads_on = {parent for node in parents for parent in parents[node]}
    return {n: last if parents[n] and n not in leads_on else row for n, row in rows.items()}


def _parents_by_children(in_row: list[np.ndarray], edges: np.ndarray) -> np.ndarray:
    """The last row in the given order; above it, each node by the mean of its children."""
    slots = np.zeros(sum(map(len, in_row)), int)
    for nodes in reversed(in_row):
        children = [slots[edges[edges[:, 0] == node, 1]] for node in nodes]
        order = np.argsort([np.mean(c) if len(c) else 0.0 for c in children], kind="stable")
        slots[nodes[order]] = 2 * np.arange(len(nodes)) - len(nodes) + 1
    return slots


def _shuffled(in_row: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Any order, with room between."""
    slots = np.zeros(sum(map(len, in_row)), int)
    for nodes in in_row:
        slots[rng.permutation(nodes)] = 4 * np.arange(len(nodes))
    return slots


def _moves(slots: np.ndarray, in_row: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Layouts that differ by one node's slot, by two of a row swapped, or by a row's shift."""

    def with_slots(nodes: Any, new: Any) -> np.ndarray:
        moved = slots.copy()
        moved[nodes] = new
        return moved

    for nodes in in_row:
        for step in (-1, 1):
            yield with_slots(nodes, slots[nodes] + step)
        for node in nodes:
            others = slots[nodes[nodes != node]]
            for slot in range(slots[node] - 6, slots[node] + 7):
                if (abs(others - slot) >= 2).all():
                    yield with_slots(node, slot)
        for a, b in combinations(nodes, 2):
            yield with_slots([a, b], slots[[b, a]])


class _Cost:
    """Of the slots of all nodes, given what does not move: rows, edges and boxes."""

    def __init__(self, row: np.ndarray, edges: np.ndarray, boxes: list[list[int]]) -> None:
        self.row, (self.a, self.b) = row, edges.T
        pairs = [(*p, *q) for p, q in combinations(edges.tolist(), 2) if not {*p} & {*q}]
        self.pairs = np.array(pairs, int).reshape(-1, 4).T
        passed = [(a, b, n) for a, b in edges for n in range(len(row)) if row[a] < row[n] < row[b]]
        self.passed = np.array(passed, int).reshape(-1, 3).T
        self.boxes = []
        for nodes in filter(None, boxes):
            layers = (row >= row[nodes].min()) & (row <= row[nodes].max())
            layers[nodes] = False
            self.boxes.append((nodes, np.flatnonzero(layers)))

    def __call__(self, slots: np.ndarray) -> float:
        a, b, n = self.passed
        way = (self.row[n] - self.row[a]) / (self.row[b] - self.row[a])
        through = abs(slots[a] + way * (slots[b] - slots[a]) - slots[n]) < 1.4
        intruders = 0
        for nodes, others in self.boxes:  # 2: a box has a margin
            low, high = slots[nodes].min() - 2, slots[nodes].max() + 2
            intruders += ((slots[others] >= low) & (slots[others] <= high)).sum()
        return float(
            ((slots[self.b] - slots[self.a]) ** 2).sum()
            + CROSSING * self._crossings(slots)
            + THROUGH_NODE * through.sum()
            + IN_BOX * intruders
        )

    def _crossings(self, slots: np.ndarray) -> int:
        """Pairs of edges that have a point in common, of those without a common node."""
        a, b, c, d = self.pairs

        def side(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
            return np.sign(
                (slots[q] - slots[p]) * (self.row[r] - self.row[p])
                - (self.row[q] - self.row[p]) * (slots[r] - slots[p])
            )

        apart = (side(a, b, c) * side(a, b, d) > 0) | (side(c, d, a) * side(c, d, b) > 0)
        return int((~apart).sum())
