"""Picture files, and the two ways in which they become 28 x 28 pixels."""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.pictures.ink import border, find_drawing
from pvae_pyro.errors import shown

SIZE = 28  # of the image networks, as MNIST
# Not all of Pillow's: to read PostScript, it runs Ghostscript.
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "TGA")
_MAX_PIXELS = 64 << 20
_BAND = 1 << 20  # pixels made grey at a time: with more, copies fill the memory
_PHOTOMETRIC = 262  # a tag of TIFF; 0 is that 0 is white
_LOOKED_AT = 200  # longest side in pixels when transparency is looked at
_LIGHT = 170  # of 255: what is drawn in lighter ink is not seen on white
_DIGIT = 20  # longest side of a digit of MNIST


@dataclass(frozen=True)
class Picture:
    """Grey ``[height, width]`` (uint8), and of how many bits its values were, of the file's 16;
    0 where they were of all.
    """

    pixels: np.ndarray
    bits: int = 0


def read_grey(path: str | os.PathLike[str]) -> np.ndarray:
    """The pixels of `read_picture_file`."""
    return read_picture_file(path).pixels


def read_picture_file(path: str | os.PathLike[str]) -> Picture:
    """A picture made grey, turned as its EXIF says.

    What is transparent is white, or black where what is drawn is light; within an opaque border,
    of its shade. Values of 16 bits are scaled by their range, or by that of 8, 10, 12 or 14 bits
    where they need no more; of 0 to 1, by that. Pillow's warnings, of metadata, are passed over.

    Raises CorpusError(reason, kind): ``missing``, ``no permission``, ``unreadable``, ``size``
    (over 64 million pixels) or ``blank`` (of one shade).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where pixels are lost, Pillow raises
            image, bits = _read(path)
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
    return Picture(pixels, bits)


def _read(path: str | os.PathLike[str]) -> tuple[Image.Image, int]:
    """In its own function, for what is decoded is to be let go of before there are copies."""
    with Image.open(path, formats=_FORMATS) as file:
        if file.width * file.height > _MAX_PIXELS:
            raise CorpusError(f"{shown(path)}: has more than {_MAX_PIXELS} pixels", "size")
        deep = ";16" in str(file.tile[0].args) if file.tile else False
        file.load()
        with contextlib.suppress(Exception):  # of a damaged EXIF block, as viewers do
            ImageOps.exif_transpose(file, in_place=True)
        most, bits, negative = 255.0, 0, False
        if file.mode.startswith(("I", "F")):
            most, bits = _range(path, file)
            # Of 8 bits, Pillow sees to it.
            negative = file.format == "TIFF" and file.tag_v2.get(_PHOTOMETRIC) == 0  # type: ignore[attr-defined]
        elif deep and len(file.getbands()) > 1 and _has_lost_depth(file):
            reason = "has colours of fewer than 15 bits in 16: save it as grey, or with 8 bits"
            raise CorpusError(f"{shown(path)}: {reason}", "unreadable")
        ground = _ground(file) if file.has_transparency_data else 255
        image = Image.new("L", file.size)
        for box in _bands(file):
            grey = _grey(file.crop(box), most, ground)
            image.paste(ImageOps.invert(grey) if negative else grey, box)
    return image, bits


def _bands(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    for top in range(0, image.height, rows := max(1, _BAND // image.width)):
        yield (0, top, image.width, min(top + rows, image.height))


def _range(path: str | os.PathLike[str], image: Image.Image) -> tuple[float, int]:
    """What is white, of values that are not of 8 bits; and of how many of 16 they are, or 0."""
    low, high = 0.0, 0.0
    for box in _bands(image):
        some = np.asarray(image.crop(box))
        low, high = np.minimum(low, some.min()), np.maximum(high, some.max())  # NaN stays
    if image.mode == "F" and 0 <= low <= high <= 1:
        return 1.0, 0
    if not 0 <= low <= high <= 65535 or image.mode == "F":
        reason = f"values from {low:g} to {high:g} are not of 16 bits, nor from 0 to 1"
        raise CorpusError(f"{shown(path)}: {reason}: save it with 8 or 16", "unreadable")
    bits = next(bits for bits in (8, 10, 12, 14, 16) if high < 1 << bits)
    return float((1 << bits) - 1), bits % 16


def _has_lost_depth(image: Image.Image) -> bool:
    """Of colours that Pillow took the upper 8 of 16 bits of: whether little was in these."""
    extrema: Any = image.getextrema()
    of = dict(zip(image.getbands(), extrema, strict=True))
    opaque = of.pop("A", (255, 255)) == (255, 255)
    return opaque and max(most for _, most in of.values()) < 1 << 6


def _ground(image: Image.Image) -> int:
    """The shade to lay a transparent picture on, so that what is drawn is seen."""
    image = image.resize([min(side, _LOOKED_AT) for side in image.size], Image.Resampling.NEAREST)
    pixels = np.asarray(image.convert("RGBA").convert("LA")).astype(np.float32)
    grey, alpha = pixels[..., 0], pixels[..., 1]
    opaque = border(alpha) == 255
    if opaque.mean() > 0.5:  # a card, of which the corners are missing
        return int(np.median(border(grey)[opaque]))
    return 0 if alpha.any() and np.average(grey, weights=alpha) > _LIGHT else 255


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


def _grey(image: Image.Image, most: float, ground: int) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # Pillow would clip pixels to 255, not scale them
        values = np.asarray(image).astype(np.float32)
        image = Image.fromarray(np.rint(values * (255 / most)).astype(np.uint8))
    if image.has_transparency_data:
        under = Image.new("RGBA", image.size, (ground, ground, ground))
        image = Image.alpha_composite(under, image.convert("RGBA"))
    return image.convert("L")


def square(pixels: np.ndarray) -> np.ndarray:
    """``[28, 28]``: padded to a square with the median of its border, and resized.

    Light and dark stay as they are: what the pictures of a manifest become.
    """
    if pixels.shape == (SIZE, SIZE):
        return pixels
    shade = int(np.median(border(pixels)))
    image = Image.fromarray(pixels)
    resized = ImageOps.pad(image, (SIZE, SIZE), Image.Resampling.LANCZOS, color=shade)
    return np.asarray(resized)


def as_mnist(pixels: np.ndarray, name: str) -> np.ndarray:
    """``[28, 28]``, a digit as MNIST has them (`placed`), of any picture (`find_drawing`).

    A picture of MNIST itself is left alone. Raises CorpusError as `find_drawing` does.
    """
    return pixels if is_mnist(pixels) else placed(find_drawing(pixels, name).ink)


def is_mnist(pixels: np.ndarray) -> bool:
    return pixels.shape == (SIZE, SIZE) and not border(pixels).any()


def placed(ink: np.ndarray, longest: int = _DIGIT) -> np.ndarray:
    """``[28, 28]``, light on black, of ink from 0 to 1: its longest side `longest` pixels, its
    centre of mass in the middle (LeCun et al. 1998, http://yann.lecun.com/exdb/mnist).
    """
    digit = Image.fromarray((255 * ink).astype(np.uint8))
    factor = longest / max(digit.size)
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
