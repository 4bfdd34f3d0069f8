"""Find what is drawn in a picture of a sheet of paper or a board."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial import ConvexHull

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.errors import shown

_COARSE = 200  # longest side in pixels of the copy in which ink is searched for
_PAGE = 1600  # longest side in pixels of the copy from which ink is taken
_DARK = 32  # of 255: below it, differences of shade are noise
_CONTRAST = 24  # of 255: a picture with less is blank
_INK = 0.3  # of the strongest ink: what is fainter is no part of a stroke
_PARTS = 100  # the most connected parts; noise has many more
_SPECK = 0.03  # of all ink: a smaller part is dirt
_LINE = 0.75  # of a side: what is straight over this length is a line of a form, not a stroke
_THIN = 7  # pixels: a wider straight stroke is no line of a form
_TOUCHING = 0.4  # of the border: ink that covers more of it is the surroundings of a sheet
_SHEET = 0.08  # of a picture's area: a smaller part is no sheet
_SHADES = 6  # thresholds at which a sheet may stand out from its surroundings
_EDGE = 0.15  # of a picture's range of shades: the least jump at the edge of a sheet
_CORNERS = np.ones((3, 3))  # neighbours include those at corners


@dataclass(frozen=True)
class Drawing:
    """Ink on a ground.

    page: grey ``[height, width]`` (uint8), the whole picture.
    light: whether the ink is lighter than the ground.
    ink: ``[height, width]`` from 0 to 1, cropped to what is drawn.
    extent: the longest side of the ink divided by that of the page.
    changes: what was removed, for a message.
    """

    page: np.ndarray
    light: bool
    ink: np.ndarray
    extent: float
    changes: tuple[str, ...]


def find_drawing(pixels: np.ndarray, name: str) -> Drawing:
    """The ink of a grey picture, dark or light, on a ground that may be unevenly lit.

    What is wider than a third of the picture is ground. Lines from side to side, parts that
    enclose other ink (a box around a digit) and specks are removed.

    Raises CorpusError naming `name`: ``blank`` where nothing stands out, ``no sheet`` where the
    picture shows a sheet, or a box, and what is around it: the user is to crop it.
    """
    page = _reduced(pixels, _PAGE)
    grey = _smooth(page)
    # The shade of ink compared with the ground, on a log scale: a shadow is a factor.
    level = np.log(grey + _DARK)
    light = bool(np.median(border(level)) <= (level.min() + level.max()) / 2)
    ink, strokes, lined = _strokes(grey, light, name)
    if border(strokes).mean() > _TOUCHING or _shows_sheet(grey):
        reason = "the picture shows more than a sheet or box: crop it to the inside of that"
        raise CorpusError(f"{shown(name)}: {reason}", "no sheet")
    rows, columns = _span(strokes)
    if not len(rows):
        raise CorpusError(f"{shown(name)}: nothing is left but a frame or lines", "blank")
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    if extent <= max(strokes.shape) / 3:
        ink = _closely(page, strokes, light)
        rows, columns = _span(_without_specks(ink)[0])
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    changes = ("a frame or lines were removed",) if lined else ()
    return Drawing(page, light, ink, float(extent / max(strokes.shape)), changes)


def border(pixels: np.ndarray) -> np.ndarray:
    """The outermost pixels of ``[height, width, ...]``; corners count twice."""
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _reduced(pixels: np.ndarray, longest: int) -> np.ndarray:
    image = Image.fromarray(pixels)
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _smooth(pixels: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(_reduced(pixels, _COARSE).astype(np.float32), 0.7)


def _closely(page: np.ndarray, strokes: np.ndarray, light: bool) -> np.ndarray:
    """The ink of small strokes, at a higher resolution, with a margin around it."""
    factor = max(page.shape) / max(strokes.shape)
    spans = _span(strokes)
    margin = 0.5 * (max(map(np.ptp, spans)) + 1) + 2
    (top, bottom), (left, right) = (
        (max(0, round(factor * (ends[0] - margin))), round(factor * (ends[-1] + margin + 1)))
        for ends in spans
    )
    near = Image.fromarray(ndimage.binary_dilation(strokes, iterations=2))
    mask = np.asarray(near.resize(page.shape[::-1]))[top:bottom, left:right]
    grey = _smooth(page[top:bottom, left:right])
    return _stands_out(grey, light)[0] * np.asarray(Image.fromarray(mask).resize(grey.shape[::-1]))


def _stands_out(grey: np.ndarray, light: bool) -> tuple[np.ndarray, float]:
    """What is narrower than a third of a picture, from 0 to 1; and its contrast, of 255."""
    ink = ndimage.white_tophat(grey if light else 255 - grey, size=max(2, max(grey.shape) // 3))
    most = float(np.sort(ink.ravel())[-8:].mean())
    return np.clip((ink / max(most, 1) - 0.25) / 0.6, 0, 1), most


def _strokes(grey: np.ndarray, light: bool, name: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """Ink from 0 to 1, where its strokes are, and whether a frame or lines were removed."""
    ink, contrast = _stands_out(grey, light)
    if contrast < _CONTRAST:
        raise CorpusError(f"{shown(name)}: nothing stands out from the ground", "blank")
    if ndimage.label(ink > 0.6, _CORNERS)[1] > _PARTS:
        raise CorpusError(f"{shown(name)}: contains only specks", "blank")
    dark = ink > _INK
    height, width = ink.shape
    across, down = np.ones((1, round(_LINE * width))), np.ones((round(_LINE * height), 1))
    lines = ndimage.binary_opening(dark, across) | ndimage.binary_opening(dark, down)
    lines &= ~ndimage.binary_opening(dark, np.ones((_THIN, _THIN)))
    if lines.any() and not lines[dark].all():
        ink = np.where(ndimage.binary_dilation(lines, _CORNERS, 2), 0, ink)
    strokes, framed = _without_specks(ink)
    near = ndimage.binary_dilation(strokes, iterations=2)
    return ink * near, strokes, bool(lines.any()) or framed


def _without_specks(ink: np.ndarray) -> tuple[np.ndarray, bool]:
    """Where ink is, without specks and parts that enclose others; whether some part does."""
    parts, number = ndimage.label(ink > _INK, _CORNERS)
    sizes = np.bincount(parts.ravel(), minlength=number + 1)[1:]
    large = 1 + np.flatnonzero(sizes >= _SPECK * sizes.sum())
    inside = [np.unique(parts[ndimage.binary_fill_holes(parts == part)]) for part in large]
    frames = [
        part
        for part, others in zip(large, inside, strict=True)
        if np.isin(large[large != part], others).any()
    ]
    return np.isin(parts, np.setdiff1d(large, frames)), bool(frames)


def _shows_sheet(grey: np.ndarray) -> bool:
    """Whether some part with a sharp edge is a rectangle, perhaps turned, with ink on it."""
    contrast = np.ptp(grey)
    for shade in np.linspace(grey.min(), grey.max(), _SHADES + 2)[1:-1]:
        for side in (grey > shade, grey <= shade):
            parts, _ = ndimage.label(side)
            sizes = np.bincount(parts.ravel())[1:]
            for part in 1 + np.flatnonzero(sizes > _SHEET * grey.size / 2):
                sheet = ndimage.binary_fill_holes(parts == part)
                if not _SHEET < sheet.mean() < 1:
                    continue
                inner = ndimage.binary_erosion(sheet, _CORNERS, 3, border_value=1)
                outside = grey[ndimage.binary_dilation(sheet, _CORNERS, 3) & ~sheet]
                sharp = abs(outside.mean() - grey[sheet & ~inner].mean()) > _EDGE * contrast
                drawn = inner.any() and np.ptp(grey[inner]) > 0.25 * contrast
                if sharp and drawn and _is_rectangle(sheet):
                    return True
    return False


def _is_rectangle(mask: np.ndarray) -> bool:
    """Whether a part nearly fills its convex hull, and four corners of that nearly all of it.

    A rectangle in perspective does; the best four corners of an ellipse hold 64 % of it.
    """
    points = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    hull = ConvexHull(np.concatenate([points + step for step in ((0, 0), (0, 1), (1, 0), (1, 1))]))
    corners = hull.points[hull.vertices]
    while len(corners) > 4:
        corners = np.delete(corners, _triangles(corners).argmin(), axis=0)
    return bool(
        mask.sum() > 0.95 * hull.volume
        and _triangles(corners)[::2].sum() > 0.88 * hull.volume
        and _triangles(corners).max() < 0.8 * hull.volume  # a shadow may be a triangle
    )


def _triangles(corners: np.ndarray) -> np.ndarray:
    """The areas of the triangles that each corner makes with its two neighbours."""
    (x, y), (z, w) = ((corners - np.roll(corners, step, axis=0)).T for step in (1, -1))
    return np.abs(x * w - y * z) / 2


def _span(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
