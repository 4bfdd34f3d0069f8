"""Picture files of any kind become digits as MNIST has them."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.pictures.decoding import placed, read_grey, square
from pvae_pyro.data.pictures.ink import find_drawing


def digit() -> np.ndarray:
    """A 7 in MNIST's manner: light on black, 20 pixels high, about centred."""
    pixels = np.zeros((28, 28), np.uint8)
    pixels[4:7, 8:20] = 250
    for row in range(7, 24):
        start = 18 - (row - 7) // 2
        pixels[row, start : start + 3] = 250
    return pixels


def photo(pixels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Dark ink on unevenly lit paper, off the centre, with noise and a speck, as JPEG."""
    rng = np.random.default_rng(seed)
    ink = np.zeros((480, 640))
    ink[90:426, 200:536] = np.kron(pixels / 255, np.ones((12, 12)))
    ink[30:36, 30:36] = 1
    y, x = np.mgrid[:480, :640]
    paper = (215 - 60 * x / 640 - 40 * y / 480) * (1 - 0.75 * ink)
    file = io.BytesIO()
    noisy = (paper + rng.normal(0, 5, paper.shape)).clip(0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(file, "JPEG", quality=80)
    return np.asarray(Image.open(file))


def alike(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation at the best shift: the digit is not at its centre of mass."""
    shifts = [(y, x) for y in range(-3, 4) for x in range(-3, 4)]
    return max(np.corrcoef(np.roll(a, s, (0, 1)).ravel(), b.ravel())[0, 1] for s in shifts)


@pytest.mark.parametrize(
    "drawn",
    [
        photo(digit()),
        255 - photo(digit()),
        np.kron(digit(), np.ones((9, 9), np.uint8)),
        np.pad(255 - digit(), ((10, 60), (40, 0)), constant_values=255),
    ],
    ids=["photo", "negative", "large", "off the centre"],
)
def test_a_digit_is_found_and_placed_as_in_mnist(drawn: np.ndarray) -> None:
    found = placed(find_drawing(drawn, "x").ink)
    assert found.shape == (28, 28)
    assert found.dtype == np.uint8
    assert alike(found, digit()) > 0.85
    rows, columns = np.nonzero(found > 60)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)
    assert not found[[0, -1]].any()
    assert not found[:, [0, -1]].any()


def page(shade: int = 225, ink: int = 40) -> np.ndarray:
    """The digit on 300 x 300 pixels of paper."""
    drawn = np.zeros((300, 300))
    drawn[80:220, 60:200] = np.kron(digit() / 255, np.ones((5, 5)))
    return (shade + (ink - shade) * drawn).astype(np.uint8)


def with_outline(shape: str, *box: int) -> np.ndarray:
    image = Image.fromarray(page())
    draw = ImageDraw.Draw(image)
    getattr(draw, shape)(box, outline=40, width=4)
    return np.asarray(image)


LINES = page()
LINES[14::45] = LINES[15::45] = 30
BAR = np.pad(page(), ((20, 0), (0, 0)), constant_values=35)
BAR[6:10, 10:60] = 220  # a title


@pytest.mark.parametrize(
    "drawn", [with_outline("ellipse", 10, 20, 270, 280), LINES], ids=["circle", "lines"]
)
def test_frames_and_lines_are_removed(drawn: np.ndarray) -> None:
    drawing = find_drawing(drawn, "x")
    assert alike(placed(drawing.ink), digit()) > 0.8
    assert drawing.changes


SURROUNDED = {
    "desk": np.pad(page(), 40, constant_values=30),
    "border of a scanner": np.pad(page(), ((0, 3), (0, 8)), constant_values=0),
    "blackboard": np.pad(page(35, 215), 30, constant_values=120),
    "box": with_outline("rectangle", 50, 50, 240, 240),
    "title bar": BAR,
}


@pytest.mark.parametrize("case", SURROUNDED)
def test_surroundings_are_never_taken_for_ink(case: str) -> None:
    with pytest.raises(CorpusError, match=r"photo\.png.*crop") as error:
        find_drawing(SURROUNDED[case], "photo.png")
    assert error.value.kind == "no sheet"


def test_a_shadow_is_no_sheet() -> None:
    across = 1 - 0.4 / (1 + np.exp(-(np.mgrid[:300, :300].sum(0) - 260) / 10))
    drawing = find_drawing((page() * across).astype(np.uint8), "x")
    assert alike(placed(drawing.ink), digit()) > 0.7
    assert not drawing.light
    assert not drawing.changes


NOISE = np.random.default_rng(0).normal(size=(200, 200))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [(20 + 1.5 * NOISE, "nothing stands out"), (200 + 25 * NOISE, "specks")],
    ids=["blank", "noise"],
)
def test_a_sheet_without_a_drawing_is_refused(pixels: np.ndarray, message: str) -> None:
    with pytest.raises(CorpusError, match=rf"empty\.png.*{message}"):
        find_drawing(pixels.clip(0, 255).astype(np.uint8), "empty.png")


def test_a_small_digit_is_found_at_a_higher_resolution() -> None:
    """At a twentieth of the page it is ten pixels high where ink is looked for at first."""
    page = np.full((2400, 1800), 235, np.uint8)
    page[1500:1640, 300:440] = 235 - np.kron(digit(), np.ones((5, 5), np.uint8)) // 2
    assert alike(placed(find_drawing(page, "x").ink), digit()) > 0.85


def test_square_keeps_light_and_dark() -> None:
    wide = np.full((10, 40), 200, np.uint8)
    wide[3:7, 15:25] = 20
    found = square(wide)
    assert found.shape == (28, 28)
    assert found[0, 0] == 200
    assert found[14, 14] < 60


def _rgba(shade: int) -> Image.Image:
    alpha = np.zeros((30, 30), np.uint8)
    alpha[8:22, 12:16] = 255
    return Image.fromarray(np.dstack([np.full((30, 30, 3), shade, np.uint8), alpha]))


@pytest.mark.parametrize("shade", [0, 255])
@pytest.mark.parametrize(("name", "mode"), [("a.png", "RGBA"), ("a.png", "LA"), ("a.gif", "P")])
def test_ink_on_transparent_ground_can_be_seen(tmp_path, shade, name, mode) -> None:
    image, options = _rgba(shade).convert("LA" if mode == "LA" else "RGBA"), {}
    if mode == "P":
        ink = (np.asarray(image)[..., 3] > 0).astype(np.uint8)
        image, options = Image.fromarray(ink, "L"), {"transparency": 0}
        image.putpalette([shade] * 6)
    image.save(tmp_path / name, **options)
    pixels = read_grey(tmp_path / name)
    assert (pixels[15, 14], pixels[2, 2]) == (shade, 255 - shade)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_values_are_scaled_by_the_bits_in_use(tmp_path, name, bits) -> None:
    values = (page()[::5, ::5] / 255 * (2**bits - 1)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    assert np.abs(read_grey(tmp_path / name).astype(int) - page()[::5, ::5]).max() <= 1


def test_a_deep_tiff_in_which_white_is_zero_is_refused(tmp_path) -> None:
    values = (255 - page()[::5, ::5]).astype(np.uint16) * 257
    Image.fromarray(values).save(tmp_path / "scan.tif", tiffinfo={262: 0})
    with pytest.raises(CorpusError, match=r"scan\.tif.*save it as PNG"):
        read_grey(tmp_path / "scan.tif")


def test_floats_must_be_from_0_to_1(tmp_path) -> None:
    values = (page()[::5, ::5] / 255).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.array_equal(read_grey(tmp_path / "a.tif"), page()[::5, ::5])
    values[3, 3] = np.nan
    for n, others in enumerate((values, 300 * np.nan_to_num(values))):
        Image.fromarray(others).save(tmp_path / f"{n}.tif")
        with pytest.raises(CorpusError, match=rf"{n}\.tif.*8 or 16"):
            read_grey(tmp_path / f"{n}.tif")


_DAMAGED_EXIF = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0\0\0\x01\0\0\0"


@pytest.mark.parametrize("segment", [b"\xe1\0\x1e" + _DAMAGED_EXIF, b"\xe2\0\x0aMPF\0junk"])
def test_damaged_metadata_are_ignored(tmp_path, segment) -> None:
    file = io.BytesIO()
    Image.fromarray(page()).save(file, "JPEG", quality=95)
    whole = file.getvalue()[:2] + b"\xff" + segment + file.getvalue()[2:]
    path = tmp_path / "phone.jpg"
    path.write_bytes(whole)
    assert abs(read_grey(path).astype(int) - page()).mean() < 3
    path.write_bytes(whole[:-300])
    with pytest.raises(CorpusError, match="truncated"):
        read_grey(path)


@pytest.mark.parametrize(
    ("content", "kind", "named"),
    [
        (b"not a picture", "unreadable", "no picture"),
        (b"version https://git-lfs.github.com/spec/v1", "unreadable", "git lfs pull"),
        ("flat", "blank", "shade"),
        (None, "missing", "no such file"),
    ],
)
def test_errors_name_the_file(tmp_path, content, kind, named) -> None:
    path = tmp_path / "bad.png"
    if content == "flat":
        Image.new("L", (5, 5), 7).save(path)
    elif content:
        path.write_bytes(content)
    with pytest.raises(CorpusError, match=rf"bad\.png.*{named}") as error:
        read_grey(path)
    assert error.value.kind == kind
