"""How the pictures of a corpus are framed: light or dark on which ground, and how large."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from pvae_pyro.data.pictures.decoding import SIZE, placed, square
from pvae_pyro.data.pictures.ink import border, find_drawing

MOST = 0.9  # the share of a corpus's pictures that must have one ground
_EVEN = 0.8  # the share of a border that must have the shade of the ground
_NEAR = 32  # of 255: the largest difference between shades of one ground
_SAMPLE = 500  # pictures


@dataclass(frozen=True)
class Framing:
    """How training pictures that are drawings on a ground are framed.

    light: whether the ground is light.
    least, middle, most: percentiles 2, 50 and 98 of a drawing's longest side, in pixels of 28.
    """

    light: bool
    least: float
    middle: float
    most: float

    @staticmethod
    def measured(images: np.ndarray) -> "Framing | None":
        """The framing of ``[N, 28, 28]`` (uint8); None unless they are drawings on one ground."""
        some = images[:: max(1, len(images) // _SAMPLE)]
        grounds = [ground_of(image) for image in some]
        ground = max(("light", "dark"), key=grounds.count)
        if grounds.count(ground) < MOST * len(grounds):
            return None
        sides = [_extent(image) for image, own in zip(some, grounds, strict=True) if own == ground]
        return Framing(ground == "light", *np.percentile(sides, (2, 50, 98)).tolist())

    @staticmethod
    def of(numbers: Sequence[float]) -> "Framing":
        """The framing that `numbers` was called for. Raises ValueError for impossible values."""
        light, least, middle, most = numbers
        if light not in (0, 1) or not 1 <= least <= middle <= most <= SIZE:
            raise ValueError(f"no framing of pictures: {numbers}")
        return Framing(bool(light), least, middle, most)

    def numbers(self) -> list[float]:
        return [float(value) for value in astuple(self)]

    def framed(self, pixels: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """A picture with this framing, ``[28, 28]``, and the changes made, a few words each.

        A picture of 28 x 28 pixels with this ground is not changed. Raises CorpusError as
        `find_drawing` does.
        """
        ground = "light" if self.light else "dark"
        if pixels.shape == (SIZE, SIZE) and ground_of(pixels) == ground:
            return pixels, ()
        drawing = find_drawing(pixels, name)
        done = list(drawing.changes)
        page = drawing.page
        if drawing.light == self.light:
            page = 255 - page
            done.append(f"light and dark were exchanged: training pictures have a {ground} ground")
        if self.least - 1 <= SIZE * drawing.extent <= self.most + 1:
            return square(page), tuple(done)
        done.append(f"it was resized to {self.middle:.0f} of {SIZE} pixels, as in training")
        shade = int(np.median(border(page)))
        ink = placed(drawing.ink, round(self.middle)) / 255
        drawn = shade + ink * ((0 if self.light else 255) - shade)
        return np.rint(drawn).astype(np.uint8), tuple(done)


def ground_of(image: np.ndarray) -> str:
    """``light`` or ``dark`` for a picture with an even border, else ``none``."""
    around = border(image).astype(int)
    shade = int(np.median(around))
    if (abs(around - shade) <= _NEAR).mean() < _EVEN or 85 < shade < 170:
        return "none"
    return "light" if shade >= 170 else "dark"


def _extent(image: np.ndarray) -> int:
    """The longest side in pixels of what differs from the ground."""
    drawn = abs(image.astype(int) - int(np.median(border(image)))) > 2 * _NEAR
    sides = [np.ptp(np.flatnonzero(drawn.any(axis))) + 1 for axis in (0, 1) if drawn.any()]
    return int(max(sides, default=SIZE))
