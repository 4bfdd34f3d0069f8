"""How often `find_num_classes` is right where the number of classes is known: synthetic clusters.

    python experiments/bench/known_classes.py docs/results/number-of-classes/known-answers.json

Four datasets for each number of classes and each shape of a class; dimensions, points, sizes and
separation are drawn by a fixed seed. It takes some five minutes on one core.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: use the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from pvae_pyro.evaluate.num_classes import find_num_classes
from pvae_pyro.io.provenance import environment, write_json

CLASSES = (1, 2, 5, 10, 35, 60)
DATASETS = 4  # of each number of classes and shape
Draw = Callable[[int], np.ndarray]  # how many points of a class, around 0


def shapes(dim: int, rng: np.random.Generator) -> dict[str, Draw]:
    """Shape of a class -> how its points are drawn.

    round: standard normal. stretched: other standard deviations in each direction, e^N(0, ½).
    elongated: 4 and 2 times as long in two random directions. parts: two to four round parts whose
    centres are 1.5 from the class's. heavy tails: Student's t with 6 degrees of freedom.
    """
    scale = np.exp(rng.normal(0, 0.5, dim))
    long = np.r_[4.0, 2.0, np.ones(dim - 2)][:, None] * np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    centres = rng.normal(size=(rng.integers(2, 5), dim))
    centres *= 1.5 / np.linalg.norm(centres, axis=1, keepdims=True)

    def parts(size: int) -> np.ndarray:
        return centres[rng.integers(len(centres), size=size)] + rng.normal(size=(size, dim))

    return {
        "round": lambda size: rng.normal(size=(size, dim)),
        "stretched": lambda size: scale * rng.normal(size=(size, dim)),
        "elongated": lambda size: rng.normal(size=(size, dim)) @ long,
        "parts": parts,
        "heavy tails": lambda size: rng.standard_t(6, size=(size, dim)),
    }


def dataset(classes: int, shape: str, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Points ``[N, D]`` in `classes` clusters, and how they were drawn.

    8, 16 or 32 dimensions; 300 to 5,000 points, at least 25 for each class on average; sizes equal
    or unequal, down to 0.5 % and 5 points; the closest centres are 5 to 9 standard deviations along
    their line apart, half of the time in groups.
    """
    rng = np.random.default_rng([classes, seed, len(shape)])
    dim, grouped, unequal = int(rng.choice([8, 16, 32])), bool(rng.integers(2)), rng.integers(2)
    size = int(rng.choice([n for n in (300, 1000, 2000, 5000) if n >= 25 * classes]))
    weights = np.exp(unequal * rng.uniform(0, np.log(12), classes))
    counts = np.maximum(np.round(weights / weights.sum() * size), max(5, 0.005 * size)).astype(int)
    centres = rng.normal(size=(classes, dim))
    if grouped:
        centres += (
            3
            * rng.normal(size=(1 + classes // 3, dim))[rng.integers(1 + classes // 3, size=classes)]
        )
    draws = [shapes(dim, rng)[shape] for _ in range(classes)]
    separation = float(rng.uniform(5, 9))
    if classes > 1:
        clouds = [draw(1000) for draw in draws]
        nearest = min(
            np.linalg.norm(a - b) / _spread(a - b, clouds[i], clouds[j])
            for i, a in enumerate(centres)
            for j, b in enumerate(centres[:i])
        )
        centres *= separation / nearest
    points = [
        centre + draw(count) for centre, draw, count in zip(centres, draws, counts, strict=True)
    ]
    return np.concatenate(points), {
        "classes": classes,
        "shape": shape,
        "dimensions": dim,
        "points": int(counts.sum()),
        "smallest": int(counts.min()),
        "largest": int(counts.max()),
        "separation": round(separation, 1),
        "grouped": grouped,
    }


def _spread(line: np.ndarray, *clouds: np.ndarray) -> float:
    return float(np.mean([(cloud @ line).std() for cloud in clouds]) / np.linalg.norm(line))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    rows = []
    for classes in CLASSES:
        for shape in shapes(8, np.random.default_rng(0)):
            for seed in range(DATASETS):
                points, drawn = dataset(classes, shape, seed)
                found = find_num_classes(points)
                kept = {name: found[name] for name in ("number", "components", "capped")}
                rows.append(drawn | kept)
                print(rows[-1], flush=True)
    right = {
        shape: {k: sum(r["number"] == k for r in rows if (r["classes"], r["shape"]) == (k, shape))
                for k in CLASSES}
        for shape in dict.fromkeys(row["shape"] for row in rows)
    }  # fmt: skip
    write_json(file, {"datasets_each": DATASETS, "right": right, "rows": rows, **environment()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
