"""The pictures of a manifest: in which size and colour they are read."""

import numpy as np
import pytest
from PIL import Image

from pvae_pyro.data.augment import augmentations
from pvae_pyro.data.corpora import registry
from pvae_pyro.data.corpora.manifest import manifest_images
from pvae_pyro.data.corpora.registry import image_corpus
from pvae_pyro.data.corpus import SPLITS, CorpusError, ImageCorpus
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.data.pictures.decoding import read_pixels, square
from pvae_pyro.data.user_file import read_picture

RED, BLUE = (250, 10, 20), (10, 20, 250)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))


def flag() -> np.ndarray:
    """60 x 30 pixels, red over blue."""
    pixels = np.empty((60, 30, 3), np.uint8)
    pixels[:30], pixels[30:] = RED, BLUE
    return pixels


@pytest.fixture
def manifest(tmp_path):
    """Two pictures in grey, of which one is saved as RGB, and a third one as asked."""
    grey = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(255 - grey).convert("RGB").save(tmp_path / "equal.webp", quality=80)

    def write(third: np.ndarray):
        Image.fromarray(third).save(tmp_path / "third.png")
        names = ("grey.png", "equal.webp", "third.png")
        lines = [f"{name},{n},{split}" for split in ("train",) for n, name in enumerate(names)]
        (tmp_path / "i.csv").write_text("\n".join(["path,label,split", *lines]))
        return tmp_path / "i.csv"

    return write


def test_one_picture_with_colour_makes_all_rgb(manifest):
    for _ in range(2):  # read, then from the cache
        corpus = manifest_images(manifest(flag()))
        images = corpus.images["train"]
        assert images.shape == (3, 3, 28, 28)
        assert (images[:2] == images[:2, :1]).all()  # grey has three equal channels
        # 60 x 30 becomes 28 x 14, padded with the median of its border on the left and right.
        assert images[2, :, 5, 14].tolist() == list(RED)
        assert images[2, :, 22, 14].tolist() == list(BLUE)
        (note,) = corpus.notes
        assert "1 of 3 hold colour" in note
        assert "third.png" in note
        assert "--image-colour grey" in note


def test_pictures_whose_channels_agree_are_grey(manifest):
    path = manifest(np.arange(784, dtype=np.uint8).reshape(28, 28))
    assert manifest_images(path).images["train"].shape == (3, 1, 28, 28)
    assert manifest_images(path).notes == ()
    rgb = manifest_images(path, colour="rgb").images["train"]
    np.testing.assert_array_equal(rgb[0], manifest_images(path).images["train"][[0, 0, 0], 0])


def test_colour_and_size_can_be_chosen(manifest, tmp_path):
    path = manifest(flag())
    found = {
        (size, colour): manifest_images(path, size=size, colour=colour).images["train"].shape[1:]
        for size in (28, 64)
        for colour in ("grey", "rgb", None)
    }
    assert found == {(n, c): (1 if c == "grey" else 3, n, n) for n, c in found}
    options = {"image_size": 40, "image_colour": "grey"}
    assert image_corpus(f"manifest:{path}", tmp_path, options).images["train"].shape[1] == 1
    with pytest.raises(CorpusError, match="--image-colour: not an option of mnist"):
        image_corpus("mnist", tmp_path, options)


def test_mnist_can_be_larger(tmp_path, monkeypatch):
    digits = np.zeros((2, 1, 28, 28), np.uint8)
    digits[:, :, 8:20, 12:16] = 250
    few = ImageCorpus("MNIST", False, dict.fromkeys(SPLITS, digits), dict.fromkeys(SPLITS, "12"))
    monkeypatch.setattr(registry, "mnist_corpus", lambda root: few)
    assert image_corpus("mnist", tmp_path, {"image_size": None}) is few
    large = image_corpus("mnist", tmp_path, {"image_size": 56}).images["test"]
    assert large.shape == (2, 1, 56, 56)
    assert abs(large.reshape(2, 1, 28, 2, 28, 2).mean((3, 5)) - digits).mean() < 4


def test_transparent_pixels_and_palettes_keep_their_colours(tmp_path):
    drawn = np.zeros((30, 30, 4), np.uint8)
    drawn[10:20, 10:20] = (*RED, 255)
    Image.fromarray(drawn).save(tmp_path / "a.png")
    pixels = read_pixels(tmp_path / "a.png")
    assert pixels[15, 15].tolist() == list(RED)
    assert pixels[0, 0].tolist() == [255] * 3
    Image.fromarray(flag()).quantize(4).save(tmp_path / "a.gif")
    assert abs(read_pixels(tmp_path / "a.gif").astype(int) - flag()).max() < 8


def test_two_colours_of_one_brightness_are_not_blank(tmp_path):
    pixels = np.full((30, 30, 3), (76, 76, 76), np.uint8)
    pixels[:15] = (255, 0, 0)  # as bright in grey
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_pixels(tmp_path / "a.png").shape == (30, 30, 3)
    with pytest.raises(CorpusError, match="one shade"):
        read_pixels(tmp_path / "a.png", "grey")


def test_a_square_is_padded_and_nothing_is_cropped():
    pixels = np.full((40, 20, 3), BLUE, np.uint8)
    pixels[:3, :3] = pixels[-3:, -3:] = RED  # two corners
    found = square(pixels, 80)
    assert found.shape == (80, 80, 3)
    assert found[40, 2].tolist() == list(BLUE)
    for corner in (found[0, 20], found[79, 59]):
        assert corner.tolist() == pytest.approx(RED, abs=30)


@pytest.mark.parametrize("shape", [(3, 40, 40), (1, 64, 64), (3, 28, 28)])
def test_a_users_picture_is_only_padded_and_resized(tmp_path, shape):
    Image.fromarray(flag()).save(tmp_path / "a.png")
    values, changes = read_picture(tmp_path / "a.png", like_mnist=False, shape=shape)
    assert values.shape == shape
    assert changes == ()
    colour = "grey" if shape[0] == 1 else "rgb"
    expected = square(read_pixels(tmp_path / "a.png", colour), shape[1])
    np.testing.assert_array_equal(np.moveaxis(values, 0, -1), expected.reshape(*shape[1:], -1))


def test_a_digit_for_a_run_on_large_mnist_is_placed_and_resized(tmp_path):
    paper = np.full((60, 60), 240, np.uint8)
    paper[20:40, 28:33] = 10
    Image.fromarray(paper).save(tmp_path / "a.png")
    (small,), _ = read_picture(tmp_path / "a.png")
    (large,), changes = read_picture(tmp_path / "a.png", shape=(1, 56, 56))
    np.testing.assert_array_equal(large, square(small, 56))
    assert "MNIST" in changes[-1]


def test_augmented_pictures_move_as_far_as_their_size():
    for side, shift in ((28, 2.0), (56, 4.0)):
        images = np.random.default_rng(0).integers(0, 256, (6, 3, side, side), np.uint8)
        examples = Examples(images, np.zeros(6, int), Normalisation())
        augment = augmentations({"image": examples}, {})["image"]
        assert augment.shift == shift
        varied = augment(examples.observation(np.arange(6)), np.random.default_rng(0))
        assert varied.value.shape == images.shape


def test_sign_photographs(data_root, tmp_path):
    with np.load(data_root / "digit_images" / "sign_photographs.npz") as arrays:
        some = {name: arrays[name][:40] for name in ("images", "labels")}
    for n, image in enumerate(some["images"]):
        Image.fromarray(image).save(tmp_path / f"{n}.png")
    lines = [f"{n}.png,{label},train" for n, label in enumerate(some["labels"])]
    (tmp_path / "i.csv").write_text("\n".join(["path,label,split", *lines]))
    corpus = manifest_images(tmp_path / "i.csv", size=64)
    assert corpus.problems == ()
    np.testing.assert_array_equal(np.moveaxis(corpus.images["train"], 1, -1), some["images"])
