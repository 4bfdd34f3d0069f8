"""How the pictures of a corpus are: light or dark on what, and how large."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from pvae_pyro.data.pictures.decoding import SIZE, placed, square
from pvae_pyro.data.pictures.ink import border, find_drawing

MOST = 0.9  # of a corpus's pictures: where fewer are drawings on a ground, it is of another kind
_EVEN = 0.8  # of a border that is a ground's
_NEAR = 32  # of 255: shades of one ground
_LOOKED_AT = 500  # pictures


@dataclass(frozen=True)
class Framing:
    """Of training pictures that are drawings on a ground: whether that is light; and a drawing's
    longest side in pixels of 28, at least, in the middle and at most, but for few.
    """

    light: bool
    least: float
    middle: float
    most: float

    @staticmethod
    def measured(images: np.ndarray) -> "Framing | None":
        """Of images ``[N, 28, 28]`` (uint8); None where they are not drawings on one ground."""
        some = images[:: max(1, len(images) // _LOOKED_AT)]
        grounds = [ground_of(image) for image in some]
        ground = max(("light", "dark"), key=grounds.count)
        if grounds.count(ground) < MOST * len(grounds):
            return None
        sides = [_extent(image) for image, of in zip(some, grounds, strict=True) if of == ground]
        return Framing(ground == "light", *np.percentile(sides, (2, 50, 98)).tolist())

    @staticmethod
    def of(numbers: Sequence[float]) -> "Framing":
        """As `numbers` has it. Raises ValueError for what that cannot have made."""
        light, *sides = numbers
        if len(sides) != 3 or light not in (0, 1) or sides != sorted(sides):
            raise ValueError(f"no framing of pictures: {numbers}")
        if not 1 <= sides[0] <= sides[2] <= SIZE:
            raise ValueError(f"no framing of pictures: {numbers}")
        return Framing(bool(light), *sides)

    def numbers(self) -> list[float]:
        return [float(value) for value in astuple(self)]

    def framed(self, pixels: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """A picture brought to this, ``[28, 28]``, and what was done to it, a few words each.

        A picture that is so already is left alone. Raises CorpusError as `find_drawing` does.
        """
        ground = "light" if self.light else "dark"
        if pixels.shape == (SIZE, SIZE) and ground_of(pixels) == ground:
            return pixels, ()
        drawing = find_drawing(pixels, name)
        done = list(drawing.done)
        page = drawing.page
        if drawing.light == self.light:
            page = 255 - page
            done.append(f"light and dark were exchanged: training pictures have a {ground} ground")
        if self.least - 1 <= SIZE * drawing.extent <= self.most + 1:
            return square(page), tuple(done)
        done.append(f"it was made {self.middle:.0f} of {SIZE} pixels large, as in training")
        shade = int(np.median(border(page)))
        ink = placed(drawing.ink, round(self.middle)) / 255
        drawn = shade + ink * ((0 if self.light else 255) - shade)
        return np.rint(drawn).astype(np.uint8), tuple(done)


def ground_of(image: np.ndarray) -> str:
    """``light`` or ``dark``, of a picture with an even border; else ``none``."""
    around = border(image).astype(int)
    shade = int(np.median(around))
    if (abs(around - shade) <= _NEAR).mean() < _EVEN or 85 < shade < 170:
        return "none"
    return "light" if shade >= 170 else "dark"


def _extent(image: np.ndarray) -> int:
    """The longest side of what is unlike the ground."""
    drawn = abs(image.astype(int) - int(np.median(border(image)))) > 2 * _NEAR
    sides = [np.ptp(np.flatnonzero(drawn.any(axis))) + 1 for axis in (0, 1) if drawn.any()]
    return int(max(sides, default=SIZE))
