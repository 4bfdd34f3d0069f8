"""Picture files become digits as MNIST has them, whatever they are of."""

import io

import numpy as np
import pytest
from PIL import Image

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.pictures import as_mnist, read_grey, square


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


def test_errors_name_the_file(tmp_path) -> None:
    (tmp_path / "no.png").write_bytes(b"not a picture")
    Image.new("L", (5, 5), 7).save(tmp_path / "flat.png")
    for name, kind in (("no.png", "unreadable"), ("flat.png", "blank"), ("none.png", "missing")):
        with pytest.raises(CorpusError, match=name) as error:
            read_grey(tmp_path / name)
        assert error.value.kind == kind
