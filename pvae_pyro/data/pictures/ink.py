"""What is drawn on a picture: the sheet is found, its surroundings are cut off, ink is measured."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial import ConvexHull

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.errors import shown

_WORKED_ON = 200  # longest side in pixels when ink is looked for
_PAGE = 1600  # longest side in pixels of which ink is taken
_DARK = 32  # of 255: below it, differences are noise
_CONTRAST = 24  # of 255: a picture with less has nothing on it
_PARTS = 100  # of the ink; noise has many more
_SPECK = 0.03  # of the ink: what is smaller is dirt
_SHADES = 6  # between which a sheet may stand out from what it lies on
_SHEET = 0.08  # of a picture's area: what is smaller is no sheet
_EDGE = 0.15  # of a picture's range of shades: the jump at a sheet's edge
_LINE = 0.75  # of a side: what is straight over so much is a line of a form, not a stroke
_THIN = 7  # pixels: a straight stroke that is as wide is no line of a form
_TOUCHING = 0.4  # of the border: ink that covers more is what lies around a sheet
_BOTH = np.ones((3, 3))  # neighbours at corners too


@dataclass(frozen=True)
class Drawing:
    """Ink on a sheet.

    page: grey ``[height, width]`` (uint8), of the sheet alone. light: ink is lighter than it.
    ink: ``[height, width]`` from 0 to 1, cut to what is drawn.
    extent: its longest side, of the page's longest.
    done: what was done to find it, a few words each.
    """

    page: np.ndarray
    light: bool
    ink: np.ndarray
    extent: float
    done: tuple[str, ...]


def find_drawing(pixels: np.ndarray, name: str) -> Drawing:
    """The ink of a grey picture, dark or light, on a ground that may be unevenly lit.

    The sheet is the smallest rectangle of about one shade (perhaps turned) that has whole ink on
    it, else the whole picture. What is wider than a third of it is ground; lines from side to
    side, what encloses other ink, and specks are left out.

    Raises CorpusError naming `name`: ``blank`` where nothing stands out, ``no sheet`` where the
    sheet cannot be told from what is around it.
    """
    page = _reduced(pixels, _PAGE)
    grey = _smooth(page)
    sheet = _sheet(grey, name)
    done = []
    if not sheet.all():
        page, grey = _alone(page, sheet), _alone(grey, sheet)
        done.append("what lies around the sheet was cut off")
    light = _is_light(grey)
    ink, kept, framed = _strokes(grey, light, name)
    if border(kept).mean() > _TOUCHING:
        raise CorpusError(
            f"{shown(name)}: the sheet cannot be told from what lies around it: crop the picture "
            "to the sheet",
            "no sheet",
        )
    if framed:
        done.append("a frame or lines were left out")
    rows, columns = _span(kept)
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    if extent <= max(kept.shape) / 3:  # small on its page: look closer
        factor = max(page.shape) / max(kept.shape)
        margin = 0.5 * extent + 2
        (top, bottom), (left, right) = (
            (max(0, round(factor * (ends[0] - margin))), round(factor * (ends[-1] + margin + 1)))
            for ends in (rows, columns)
        )
        found = Image.fromarray(ndimage.binary_dilation(kept, iterations=2))
        found = found.resize(page.shape[::-1])
        close = _smooth(page[top:bottom, left:right])
        there = Image.fromarray(np.asarray(found)[top:bottom, left:right])
        near, _ = _stands_out(close, light)
        ink = near * np.asarray(there.resize(close.shape[::-1]))
        rows, columns = _span(_without_specks(ink)[0])
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Drawing(page, light, ink, float(extent / max(kept.shape)), tuple(done))


def border(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _reduced(pixels: np.ndarray, longest: int) -> np.ndarray:
    image = Image.fromarray(pixels)
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _smooth(pixels: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(_reduced(pixels, _WORKED_ON).astype(np.float32), 0.7)


def _sheet(grey: np.ndarray, name: str) -> np.ndarray:
    """Where the sheet is: the smallest that has ink which does not go beyond it, or all."""
    found: list[np.ndarray] = []
    crossed = False
    least = 0.25 * float(np.ptp(grey))  # what is drawn is not much fainter than what is around
    for sheet in sorted(_sheets(grey), key=np.count_nonzero):
        if any((sheet & other).any() for other in found):
            continue
        alone = _alone(grey, sheet)
        light = _is_light(alone)
        if _stands_out(alone, light)[1] < least:
            continue
        try:
            _, kept, _ = _strokes(alone, light, name)
        except CorpusError:
            continue
        inner = _inner(sheet)
        whole = ndimage.binary_erosion(inner, _BOTH, 2, border_value=1)[_box(inner)]
        if not (kept & ~whole).any():
            found.append(sheet)
        else:
            crossed = True
    if len(found) > 1:
        raise CorpusError(
            f"{shown(name)}: {len(found)} sheets have something on them: crop the picture to one",
            "no sheet",
        )
    if crossed and not found:
        raise CorpusError(
            f"{shown(name)}: something is drawn over the edge of the sheet: crop the picture to it",
            "no sheet",
        )
    return found[0] if found else np.ones(grey.shape, bool)


def _inner(sheet: np.ndarray) -> np.ndarray:
    """A sheet without its edge, which is of mixed shade."""
    width = max(1, round(0.015 * max(sheet.shape)))
    inner = ndimage.binary_erosion(sheet, _BOTH, width, border_value=1)
    return inner if inner.any() else sheet


def _sheets(grey: np.ndarray) -> list[np.ndarray]:
    """Connected parts lighter or darker than some shade that are, holes filled, rectangles."""
    sheets = []
    for shade in np.linspace(grey.min(), grey.max(), _SHADES + 2)[1:-1]:
        for side in (grey > shade, grey <= shade):
            parts, _ = ndimage.label(side)
            sizes = np.bincount(parts.ravel())[1:]
            for part in 1 + np.flatnonzero(sizes > _SHEET * grey.size / 2):
                sheet = ndimage.binary_fill_holes(parts == part)
                if _SHEET < sheet.mean() < 1 and _is_sharp(sheet, grey) and _is_rectangle(sheet):
                    sheets.append(sheet)
    return sheets


def _is_sharp(mask: np.ndarray, grey: np.ndarray) -> bool:
    """Whether the shade jumps at its edge, where that of uneven light goes slowly."""
    outside = grey[ndimage.binary_dilation(mask, _BOTH, 3) & ~mask]
    inside = grey[mask & ~ndimage.binary_erosion(mask, _BOTH, 3, border_value=1)]
    return bool(abs(outside.mean() - inside.mean()) > _EDGE * np.ptp(grey))


def _is_rectangle(mask: np.ndarray) -> bool:
    """Whether it nearly fills its convex hull, and four corners of that nearly all of it.

    So it is in perspective too; of an ellipse, four corners hold 64 %.
    """
    points = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    hull = ConvexHull(np.concatenate([points + step for step in ((0, 0), (0, 1), (1, 0), (1, 1))]))
    corners = hull.points[hull.vertices]
    while len(corners) > 4:
        corners = np.delete(corners, _triangles(corners).argmin(), axis=0)
    return bool(
        mask.sum() > 0.95 * hull.volume
        and _area(corners) > 0.88 * hull.volume
        and _triangles(corners).max() < 0.8 * hull.volume  # no triangle, as a shadow may be
    )


def _triangles(corners: np.ndarray) -> np.ndarray:
    """Areas between each corner and its neighbours."""
    (x, y), (z, w) = ((corners - np.roll(corners, step, axis=0)).T for step in (1, -1))
    return np.abs(x * w - y * z) / 2


def _area(corners: np.ndarray) -> float:
    """Of four corners, in order: of the triangles at two opposite ones."""
    return float(_triangles(corners)[::2].sum())


def _alone(pixels: np.ndarray, sheet: np.ndarray) -> np.ndarray:
    """Cut to the sheet's box, and around the sheet as at the nearest place within it."""
    within = Image.fromarray(_inner(sheet))
    mask = np.asarray(within.resize(pixels.shape[::-1], Image.Resampling.NEAREST))
    box = _box(mask)
    pixels, mask = pixels[box], mask[box]
    if mask.all():
        return pixels
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return pixels[tuple(nearest)]


def _is_light(grey: np.ndarray) -> bool:
    """Whether ink is lighter than its ground. On a log scale: a shadow takes a share."""
    level = np.log(grey + _DARK)
    return bool(np.median(border(level)) <= (level.min() + level.max()) / 2)


def _stands_out(grey: np.ndarray, light: bool) -> tuple[np.ndarray, float]:
    """What is narrower than a third of a picture, from 0 to 1; and its contrast, of 255."""
    ink = ndimage.white_tophat(grey if light else 255 - grey, size=max(2, max(grey.shape) // 3))
    most = float(np.sort(ink.ravel())[-8:].mean())
    return np.clip((ink / max(most, 1) - 0.25) / 0.6, 0, 1), most


def _strokes(grey: np.ndarray, light: bool, name: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """Ink, where it is more than specks, and whether a frame or lines were among it."""
    ink, contrast = _stands_out(grey, light)
    if contrast < _CONTRAST:
        raise CorpusError(f"{shown(name)}: nothing stands out from its ground", "blank")
    if ndimage.label(ink > 0.6, _BOTH)[1] > _PARTS:
        raise CorpusError(f"{shown(name)}: full of specks, and no digit in it", "blank")
    lines = np.zeros(ink.shape, bool)
    for size in ((1, round(_LINE * ink.shape[1])), (round(_LINE * ink.shape[0]), 1)):
        lines |= ndimage.binary_opening(ink > 0.3, np.ones(size))
    lines &= ~ndimage.binary_opening(ink > 0.3, np.ones((_THIN, _THIN)))
    if lines.any() and not lines[ink > 0.3].all():
        ink = np.where(ndimage.binary_dilation(lines, _BOTH, 2), 0, ink)
    kept, enclosing = _without_specks(ink)
    return (
        ink * ndimage.binary_dilation(kept, iterations=2),
        kept,
        bool(lines.any() or enclosing),
    )


def _without_specks(ink: np.ndarray) -> tuple[np.ndarray, bool]:
    """Where ink is, but for specks and what encloses other ink; whether something does."""
    parts, number = ndimage.label(ink > 0.3, _BOTH)
    sizes = np.bincount(parts.ravel(), minlength=number + 1)[1:]
    large = 1 + np.flatnonzero(sizes >= _SPECK * sizes.sum())
    inside = [np.unique(parts[ndimage.binary_fill_holes(parts == part)]) for part in large]
    frames = [
        part
        for part, others in zip(large, inside, strict=True)
        if np.isin(large[large != part], others).any()
    ]
    return np.isin(parts, np.setdiff1d(large, frames)), bool(frames)


def _box(mask: np.ndarray) -> tuple[slice, slice]:
    rows, columns = _span(mask)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _span(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
