"""Picture files, and the two ways in which they become a square of pixels.

Shapes: H x W pixels, N x N of a square.
"""

import contextlib
import os
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.pictures.ink import border
from pvae_pyro.data.placeholder import placeholder
from pvae_pyro.errors import shown
from pvae_pyro.nn.choices import ImageColour

SIZE = 28  # pixels of a side, as in MNIST
# Not all formats of Pillow: to read PostScript, it runs Ghostscript.
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "TGA")
_MAX_PIXELS = 64 << 20
_PHOTOMETRIC = 262  # a tag of TIFF: 0 says that the value 0 is white, which Pillow ignores
_LIGHT = 170  # of 255: lighter ink is invisible on white
_COLOUR = 8  # of 255: channels of a grey picture may differ by this after lossy compression
_DIGIT = 20  # longest side in pixels of a digit of MNIST


def read_grey(path: str | os.PathLike[str]) -> np.ndarray:
    """``[H, W]`` (uint8): `read_pixels` in grey."""
    return read_pixels(path, "grey")


def read_pixels(path: str | os.PathLike[str], colour: ImageColour | None = None) -> np.ndarray:
    """``[H, W]`` or ``[H, W, 3]`` (uint8): a picture in grey or RGB, rotated as its EXIF data say.

    colour: None is RGB for a picture whose channels differ by more than rounding, else grey.

    Transparent pixels become white, or black if the rest is light; within an opaque border, they
    take its shade. Values of more than 8 bits are scaled by the smallest of 8, 10, 12, 14 and 16
    bits that holds them, and floats from 0 to 1 by 1. Warnings of Pillow about metadata are
    ignored.

    Raises CorpusError(reason, kind): ``missing``, ``no permission``, ``unreadable``, ``size``
    (over 64 Mi pixels) or ``blank`` (one shade only).
    """
    name = shown(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where pixels are lost, Pillow raises
            pixels = np.asarray(_read(path, name, colour))
    except FileNotFoundError as error:
        raise CorpusError(f"{name}: no such file", "missing") from error
    except PermissionError as error:
        raise CorpusError(f"{name}: permission denied", "no permission") from error
    except CorpusError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly everything
        with open(path, "rb") as file:
            known = placeholder(file.read(64))
        if not known and isinstance(error, UnidentifiedImageError):
            known = "is no picture of a known format"
        reason = known or f"cannot be read ({error})"
        raise CorpusError(f"{name}: {reason}", "unreadable") from error
    if (pixels == pixels[0, 0]).all():
        raise CorpusError(f"{name}: is of one shade", "blank")
    return pixels


def _read(path: str | os.PathLike[str], name: str, colour: ImageColour | None) -> Image.Image:
    with Image.open(path, formats=_FORMATS) as file:
        if file.width * file.height > _MAX_PIXELS:
            raise CorpusError(f"{name}: has more than {_MAX_PIXELS} pixels", "size")
        file.load()
        with contextlib.suppress(Exception):  # viewers ignore damaged EXIF data, too
            ImageOps.exif_transpose(file, in_place=True)
        image = _opaque(_eight_bits(file, name))
        is_rgb = _holds_colour(image) if colour is None else colour == "rgb"
        return image.convert("RGB" if is_rgb else "L")


def _holds_colour(image: Image.Image) -> bool:
    if image.mode in ("1", "L"):
        return False
    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")).astype(np.int16), -1, 0)
    return bool(max(abs(red - green).max(), abs(green - blue).max()) > _COLOUR)


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    if not image.mode.startswith(("I", "F")):
        return image
    if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0:  # type: ignore[attr-defined]
        raise CorpusError(
            f"{name}: white is 0 in this TIFF of 16 bits: save it as PNG", "unreadable"
        )
    values = np.asarray(image).astype(np.float32)
    low, high = values.min(), values.max()
    if image.mode == "F" and 0 <= low <= high <= 1:
        white = 1
    elif image.mode == "F" or not 0 <= low <= high <= 65535:
        reason = f"values from {low:g} to {high:g} are neither of 16 bits nor from 0 to 1"
        raise CorpusError(f"{name}: {reason}: save it with 8 or 16 bits", "unreadable")
    else:
        white = next(2**bits - 1 for bits in (8, 10, 12, 14, 16) if high < 2**bits)
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    """The image on a ground on which what is drawn can be seen."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    pixels = np.asarray(image.convert("LA")).astype(np.float32)
    grey, alpha = pixels[..., 0], pixels[..., 1]
    opaque = border(alpha) == 255
    if opaque.mean() > 0.5:  # a card with transparent corners
        ground = int(np.median(border(grey)[opaque]))
    else:
        light = alpha.any() and np.average(grey, weights=alpha) > _LIGHT
        ground = 0 if light else 255
    return Image.alpha_composite(Image.new("RGBA", image.size, (ground,) * 3), image)


def square(pixels: np.ndarray, size: int = SIZE) -> np.ndarray:
    """``[N, N]`` or ``[N, N, 3]``, N = `size`: padded to a square and resized.

    The pictures of a manifest are prepared in this way: nothing is cropped, what is padded has the
    median shade of the border, and light and dark are not exchanged.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    shade = np.median(border(pixels), 0).astype(int)
    image, colour = Image.fromarray(pixels), tuple(np.atleast_1d(shade).tolist())
    return np.asarray(ImageOps.pad(image, (size, size), Image.Resampling.LANCZOS, color=colour))


def channels_first(pixels: np.ndarray) -> np.ndarray:
    """``[H, W]`` or ``[H, W, 3]`` as ``[C, H, W]``, which models see."""
    return np.moveaxis(pixels.reshape(*pixels.shape[:2], -1), -1, 0)


def is_mnist(pixels: np.ndarray) -> bool:
    """Whether ``[height, width]`` has the size and the black border of MNIST's pictures."""
    return pixels.shape == (SIZE, SIZE) and not border(pixels).any()


def placed(ink: np.ndarray, longest: int = _DIGIT) -> np.ndarray:
    """Ink ``[height, width]`` from 0 to 1 as ``[28, 28]`` (uint8), light on black.

    As in MNIST, its longest side has `longest` pixels, and its centre of mass is in the middle
    (LeCun et al. 1998, http://yann.lecun.com/exdb/mnist).
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
