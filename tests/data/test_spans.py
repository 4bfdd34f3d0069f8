"""Overlaps of spans, against a look at each pair."""

import math

import numpy as np

from pvae_pyro.data.spans import Spans

TOLERANCE = 0.02


def _overlap(a, b):
    return min(a[1], b[1]) - max(a[0], b[0]) > TOLERANCE


def test_as_a_look_at_each_pair():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(50):
        spans, kept = Spans(TOLERANCE), []
        for n in range(60):
            start = float(rng.integers(0, 300)) / 100
            length = math.inf if rng.random() < 0.02 else float(rng.integers(1, 40)) / 100
            span = (start, start + length)
            overlapping = spans.overlapping(*span)
            assert (overlapping is not None) == any(_overlap(span, other) for other in kept)
            if overlapping is not None:
                found += 1
                assert _overlap(span, kept[overlapping])
            kept.append(span)
            spans.add(*span, n)
    assert 500 < found < 2900
