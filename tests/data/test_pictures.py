"""Picture files become digits as MNIST has them, whatever they are of."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.pictures.decoding import as_mnist, placed, read_grey, read_picture_file, square
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
        np.pad(
            255 - np.kron(digit(), np.ones((4, 4), np.uint8)),
            ((700, 90), (50, 640)),
            constant_values=255,
        ),
    ],
    ids=["photo", "negative", "large", "off the centre", "small on a page"],
)
def test_a_digit_is_found_and_put_as_mnist_has_it(drawn: np.ndarray) -> None:
    found = as_mnist(drawn, "x")
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


def on_desk(angle: float) -> np.ndarray:
    sheet = Image.new("L", (300, 300), 255).rotate(angle)
    desk = Image.new("L", (500, 440), 60)
    desk.paste(Image.fromarray(page()).rotate(angle), (110, 60), sheet)
    return np.asarray(desk)


LINES = page()
LINES[14::45] = LINES[15::45] = 30
BAR = np.pad(page(), ((20, 0), (0, 0)), constant_values=35)
BAR[6:10, 10:60] = 220  # a title


@pytest.mark.parametrize(
    "drawn",
    [
        np.pad(page(), 40, constant_values=30),
        np.pad(page(), 160, constant_values=15),
        np.pad(page(), 3, constant_values=0),
        np.pad(page(), ((0, 0), (25, 0)), constant_values=20),
        np.pad(page(), ((0, 3), (0, 8)), constant_values=0),
        np.pad(page(), ((0, 60), (50, 0)), constant_values=110),
        np.pad(page(ink=150), 60, constant_values=40),
        np.pad(page(35, 215), 30, constant_values=120),
        np.pad(page(35, 215), 60, constant_values=180),
        on_desk(3),
        with_outline("rectangle", 50, 50, 240, 240),
        with_outline("rounded_rectangle", 50, 50, 240, 240),
        with_outline("ellipse", 10, 20, 270, 280),
        LINES,
        BAR,
    ],
    ids=[
        *("desk", "wide desk", "scan frame", "strip", "scanner's border", "desk at two sides"),
        *("pencil", "blackboard, brown frame", "blackboard, light frame", "turned"),
        *("box", "rounded box", "circle", "lines", "window's bar"),
    ],
)
def test_what_lies_around_a_drawing_is_left_out(drawn: np.ndarray) -> None:
    drawing = find_drawing(drawn, "x")
    assert alike(placed(drawing.ink), digit()) > 0.8
    assert drawing.done


def test_a_shadow_is_no_sheet() -> None:
    across = 1 - 0.4 / (1 + np.exp(-(np.mgrid[:300, :300].sum(0) - 260) / 10))
    drawing = find_drawing((page() * across).astype(np.uint8), "x")
    assert alike(placed(drawing.ink), digit()) > 0.7
    assert not drawing.light
    assert drawing.done == ()


def test_two_sheets_with_something_on_them() -> None:
    both = np.pad(np.concatenate([page(), np.full((40, 300), 30, np.uint8), page()]), 40)
    with pytest.raises(CorpusError, match=r"two\.png.*crop") as error:
        find_drawing(both, "two.png")
    assert error.value.kind == "no sheet"


def test_a_drawing_over_the_edge_of_a_turned_sheet() -> None:
    """Whatever is taken for the sheet, the desk is never taken for ink."""
    sheet = np.full((280, 280), 225, np.uint8)
    sheet[20:260, 3:30] = sheet[20:47, 3:277] = 40
    turned = Image.fromarray(sheet).convert("LA").rotate(20, expand=True)
    desk = Image.new("L", (turned.width + 120, turned.height + 120), 30)
    desk.paste(turned.convert("L"), (60, 60), mask=turned.getchannel("A"))
    with pytest.raises(CorpusError, match=r"turned\.png.*crop"):
        find_drawing(np.asarray(desk), "turned.png")


def test_an_empty_sheet_on_a_desk() -> None:
    sheet = np.pad(page(ink=225), 40, constant_values=30)
    with pytest.raises(CorpusError, match="empty"):
        find_drawing(sheet, "empty.png")


def test_a_picture_of_mnist_is_left_alone() -> None:
    assert as_mnist(digit(), "x") is not None
    assert np.array_equal(as_mnist(digit(), "x"), digit())


@pytest.mark.parametrize("value", [20, 250])
def test_a_sheet_with_nothing_on_it(value: int) -> None:
    sheet = (value + np.random.default_rng(0).normal(0, 1.5, (90, 70))).astype(np.uint8)
    with pytest.raises(CorpusError, match=r"empty\.png: nothing stands out"):
        as_mnist(sheet, "empty.png")


def test_a_small_digit_is_looked_at_closely() -> None:
    """At a twentieth of the page it is ten pixels high where ink is looked for at first."""
    page = np.full((2400, 1800), 235, np.uint8)
    page[1500:1640, 300:440] = 235 - np.kron(digit(), np.ones((5, 5), np.uint8)) // 2
    assert alike(as_mnist(page, "x"), digit()) > 0.85


def test_noise_is_no_digit() -> None:
    noise = (200 + 25 * np.random.default_rng(0).normal(size=(200, 200))).clip(0, 255)
    with pytest.raises(CorpusError, match="specks"):
        as_mnist(noise.astype(np.uint8), "noise.png")


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


def _indexed(ground: int, ink: int) -> Image.Image:
    image = Image.fromarray((np.asarray(_rgba(0))[..., 3] > 0).astype(np.uint8), "L")
    image.putpalette([ground] * 3 + [ink] * 3)
    return image


@pytest.mark.parametrize("shade", [0, 255])
@pytest.mark.parametrize(
    ("name", "mode"), [("a.png", "RGBA"), ("a.png", "LA"), ("a.webp", "RGBA"), ("a.gif", "P")]
)
def test_ink_on_nothing_is_seen(tmp_path, shade, name, mode) -> None:
    image = _indexed(shade, shade) if mode == "P" else _rgba(shade).convert(mode)
    options = {"transparency": 0} if mode == "P" else {"lossless": True}
    image.save(tmp_path / name, **options)
    pixels = read_grey(tmp_path / name)
    assert pixels[15, 14] == shade
    assert pixels[2, 2] == 255 - shade


def test_missing_corners_are_of_the_card_s_shade(tmp_path) -> None:
    pixels = np.array(_rgba(220))
    pixels[..., :3][pixels[..., 3] == 0] = 30
    pixels[..., 3] = 255
    pixels[:3, :3, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "card.png")
    assert read_grey(tmp_path / "card.png")[0, 0] == 30


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_values_of_fewer_bits_than_their_file(tmp_path, name, bits) -> None:
    values = (page()[::5, ::5] / 255 * (2**bits - 1)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    picture = read_picture_file(tmp_path / name)
    assert picture.bits == bits % 16
    assert np.abs(picture.pixels.astype(int) - page()[::5, ::5]).max() <= 1


@pytest.mark.parametrize("scale", [16, 257])
def test_a_negative_of_16_bits_is_turned(tmp_path, scale) -> None:
    values = (255 - page()[::5, ::5].astype(np.uint16)) * scale
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo={262: 0})
    assert abs(int(read_grey(tmp_path / "a.tif")[0, 0]) - 225) <= 1


def test_numbers_from_0_to_1_and_others(tmp_path) -> None:
    values = (page()[::5, ::5] / 255).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.array_equal(read_grey(tmp_path / "a.tif"), page()[::5, ::5])
    values[3, 3] = np.nan
    for n, others in enumerate((values, 300 * np.nan_to_num(values))):
        Image.fromarray(others).save(tmp_path / f"{n}.tif")
        with pytest.raises(CorpusError, match=rf"{n}\.tif.*8 or 16"):
            read_grey(tmp_path / f"{n}.tif")


def test_colours_of_12_bits_in_16_are_refused(tmp_path) -> None:
    """Pillow keeps the upper eight, of which nearly nothing is left."""

    def chunk(name: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    for scale in (16, 257):
        rows = np.repeat(page()[::5, ::5, None].astype(np.uint16) * scale, 3, 2)
        lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
        (tmp_path / f"{scale}.png").write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", 60, 60, 16, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(lines))
            + chunk(b"IEND", b"")
        )
    assert read_grey(tmp_path / "257.png")[0, 0] == 225
    with pytest.raises(CorpusError, match=r"16\.png.*8 bits"):
        read_grey(tmp_path / "16.png")


def _segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


_ENTRY = b"\x12\x01\x03\0\x01\0\0\0\x01\0\0\0"


@pytest.mark.parametrize(
    "segment",
    [
        _segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\x05\0" + _ENTRY),
        _segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\x7f"),
        _segment(0xE1, b"Exif\0\0junk"),
        _segment(0xE2, b"MPF\0II*\0\x08\0\0\0\x01\0\x01\xb0\x04\0\x01\0\0\0\x02\0\0\0"),
        _segment(0xE2, b"MPF\0junk"),
    ],
    ids=["EXIF cut", "EXIF elsewhere", "no EXIF", "MPF cut", "no MPF"],
)
def test_a_whole_jpeg_with_damaged_metadata_is_read(tmp_path, segment) -> None:
    file = io.BytesIO()
    Image.fromarray(page()).save(file, "JPEG", quality=95)
    whole = file.getvalue()
    path = tmp_path / "phone.jpg"
    path.write_bytes(whole[:2] + segment + whole[2:])
    assert abs(read_grey(path).astype(int) - page()).mean() < 3
    path.write_bytes((whole[:2] + segment + whole[2:])[:-300])
    with pytest.raises(CorpusError, match="truncated"):
        read_grey(path)


def test_errors_name_the_file(tmp_path) -> None:
    (tmp_path / "no.png").write_bytes(b"not a picture")
    Image.new("L", (5, 5), 7).save(tmp_path / "flat.png")
    for name, kind in (("no.png", "unreadable"), ("flat.png", "blank"), ("none.png", "missing")):
        with pytest.raises(CorpusError, match=name) as error:
            read_grey(tmp_path / name)
        assert error.value.kind == kind
