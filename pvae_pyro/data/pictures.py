"""Picture files, and the two ways in which they become 28 x 28 pixels."""

import io
import os
import warnings

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from pvae_pyro.data.corpus import CorpusError, shown

SIZE = 28  # of the image networks, as MNIST
# Not all of Pillow's: to read PostScript, it runs Ghostscript.
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "TGA")
_MAX_PIXELS = 64 << 20
_BAND = 1 << 20  # pixels made grey at a time: with more, copies fill the memory
_WORKED_ON = 200  # longest side in pixels when ink is looked for
_DIGIT = 20  # longest side of a digit of MNIST
_CONTRAST = 24  # of 255: a picture with less has nothing on it
_PARTS = 100  # of the ink; noise has many more
_SPECK = 0.03  # of the ink: what is smaller is dirt


def read_grey(path: str | os.PathLike[str]) -> np.ndarray:
    """Grey ``[height, width]`` (uint8), turned as its EXIF says, on white where transparent.

    Raises CorpusError(reason, kind): ``missing``, ``no permission``, ``unreadable``, ``size``
    (over 64 million pixels) or ``blank`` (of one shade).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow warns of what it mends or half reads
            image = _read(path)
    except FileNotFoundError as error:
        raise CorpusError(f"{shown(path)}: no such file", "missing") from error
    except PermissionError as error:
        raise CorpusError(f"{shown(path)}: permission denied", "no permission") from error
    except CorpusError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly everything
        raise CorpusError(f"{shown(path)}: is no image ({error})", "unreadable") from error
    pixels = np.asarray(image)
    if pixels.min() == pixels.max():
        raise CorpusError(f"{shown(path)}: is of one shade", "blank")
    return pixels


def _read(path: str | os.PathLike[str]) -> Image.Image:
    """In its own function, for what is decoded is to be let go of before there are copies."""
    with Image.open(path, formats=_FORMATS) as file:
        if file.width * file.height > _MAX_PIXELS:
            raise CorpusError(f"{shown(path)}: has more than {_MAX_PIXELS} pixels", "size")
        ImageOps.exif_transpose(file, in_place=True)
        file.load()
        image = Image.new("L", file.size)
        for top in range(0, file.height, rows := max(1, _BAND // file.width)):
            box = (0, top, file.width, min(top + rows, file.height))
            image.paste(_grey(path, file.crop(box)), box)
    return image


def png_width(content: bytes) -> int:
    """Of a PNG file, in pixels; it is looked through, and not unpacked to whatever size.

    Raises ValueError where it is damaged or none.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            width = image.width
            image.verify()
    except Exception as error:  # Pillow's decoders raise nearly everything
        raise ValueError(str(error)) from error
    return width


def _grey(path: str | os.PathLike[str], image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(path, image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("L")


def _eight_bits(path: str | os.PathLike[str], image: Image.Image) -> Image.Image:
    """Pillow would clip 16-bit pixels to 255, not scale them."""
    pixels = np.asarray(image)
    if image.mode == "F" or pixels.min() < 0 or pixels.max() > 65535:
        raise CorpusError(f"{shown(path)}: has pixels of more than 16 bits", "unreadable")
    return Image.fromarray((pixels // 257).astype(np.uint8))


def square(pixels: np.ndarray) -> np.ndarray:
    """``[28, 28]``: padded to a square with the median of its border, and resized.

    Light and dark stay as they are: what the pictures of a manifest become.
    """
    if pixels.shape == (SIZE, SIZE):
        return pixels
    shade = int(np.median(_border(pixels)))
    image = Image.fromarray(pixels)
    resized = ImageOps.pad(image, (SIZE, SIZE), Image.Resampling.LANCZOS, color=shade)
    return np.asarray(resized)


def as_mnist(pixels: np.ndarray, name: str) -> np.ndarray:
    """``[28, 28]``, a digit as MNIST has them: light on black, its longest side 20 pixels, its
    centre of mass in the middle (LeCun et al. 1998, http://yann.lecun.com/exdb/mnist).

    Ink may be dark or light and its ground uneven, as on a photo: what is wider than a third of
    the picture is ground, and specks beside the ink are dropped. A picture of MNIST itself is
    left alone.

    Raises CorpusError naming `name` (``"blank"``) where nothing stands out.
    """
    if pixels.shape == (SIZE, SIZE) and not _border(pixels).any():
        return pixels
    ink, kept = _ink(pixels, name)
    rows, columns = (np.flatnonzero(kept.any(axis)) for axis in (1, 0))
    if max(np.ptp(rows), np.ptp(columns)) < max(kept.shape) / 3:  # small on its page: look closer
        factor = max(pixels.shape) / max(kept.shape)
        margin = 0.5 * max(np.ptp(rows), np.ptp(columns)) + 2
        (top, bottom), (left, right) = (
            (max(0, round(factor * (ends[0] - margin))), round(factor * (ends[-1] + margin + 1)))
            for ends in (rows, columns)
        )
        ink, kept = _ink(pixels[top:bottom, left:right], name)
        rows, columns = (np.flatnonzero(kept.any(axis)) for axis in (1, 0))
    digit = Image.fromarray(
        (255 * ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]).astype(np.uint8)
    )
    factor = _DIGIT / max(digit.size)
    width, height = (max(1, round(factor * side)) for side in digit.size)
    small = np.asarray(digit.resize((width, height), Image.Resampling.BOX)).astype(np.float32)
    canvas = np.zeros((SIZE, SIZE), np.float32)
    centre = ndimage.center_of_mass(small)
    top, left = (
        int(np.clip(round((SIZE - 1) / 2 - mean), 0, SIZE - side))
        for mean, side in zip(centre, small.shape, strict=True)
    )
    canvas[top : top + height, left : left + width] = small
    return canvas.round().astype(np.uint8)


def _ink(pixels: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Ink, 0 to 1, of a picture made smaller, and where it is more than specks."""
    image = Image.fromarray(pixels)
    image.thumbnail((_WORKED_ON, _WORKED_ON), Image.Resampling.LANCZOS)
    grey = ndimage.gaussian_filter(np.asarray(image).astype(np.float32), 0.7)
    if np.median(_border(grey)) > (grey.min() + grey.max()) / 2:
        grey = 255 - grey
    ink = ndimage.white_tophat(grey, size=max(grey.shape) // 3)
    most = float(np.sort(ink.ravel())[-8:].mean())
    if most < _CONTRAST:
        raise CorpusError(f"{shown(name)}: nothing stands out from its ground", "blank")
    ink = np.clip((ink / most - 0.25) / 0.6, 0, 1)
    if ndimage.label(ink > 0.6, np.ones((3, 3)))[1] > _PARTS:
        raise CorpusError(f"{shown(name)}: full of specks, and no digit in it", "blank")
    parts, number = ndimage.label(ink > 0.3, np.ones((3, 3)))
    sizes = ndimage.sum_labels(ink > 0.3, parts, np.arange(1, number + 1))
    kept = np.isin(parts, 1 + np.flatnonzero(sizes >= _SPECK * sizes.sum()))
    return ink * ndimage.binary_dilation(kept, iterations=2), kept


def _border(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
