"""Which parts of a recording overlap, without a look at each pair of them."""

from bisect import bisect_left
from typing import Generic, TypeVar

Name = TypeVar("Name")


class Spans(Generic[Name]):
    """Spans of time, each with a name, to be asked whether another one overlaps one of them.

    tolerance: seconds; an overlap of no more is none.

    Only spans that lie in no other one are kept, by their start: their ends rise too. So of those
    that start early enough to overlap, the last one ends last. Both calls take O(log N), but for
    the move of N pointers on insertion.
    """

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._starts: list[float] = []
        self._ends: list[float] = []
        self._names: list[Name] = []

    def overlapping(self, start: float, end: float) -> Name | None:
        """The name of a span that overlaps this one, if there is one."""
        too_late = bisect_left(self._starts, True, key=lambda s: end - s <= self._tolerance)
        at = too_late - 1
        if at < 0:
            return None
        shared = min(end, self._ends[at]) - max(start, self._starts[at])
        return self._names[at] if shared > self._tolerance else None

    def add(self, start: float, end: float, name: Name) -> None:
        if end - start <= self._tolerance:
            return  # nothing can overlap it, and it must not stand for those before it
        first = bisect_left(self._starts, start)
        if first and self._ends[first - 1] >= end:
            return
        last = first
        while last < len(self._ends) and self._ends[last] <= end:
            last += 1
        if last == first < len(self._starts) and self._starts[first] == start:
            return  # within a longer one that starts with it
        for values, value in ((self._starts, start), (self._ends, end), (self._names, name)):
            values[first:last] = [value]  # type: ignore[list-item]
