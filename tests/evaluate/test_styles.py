"""Measures of style, on pictures and sounds of which they are known."""

import numpy as np
import pytest
import torch

from pvae_pyro.batch import Observation
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.evaluate import styles
from pvae_pyro.evaluate.styles import diversity, of_pictures, of_spectra, style_kept
from tests.support.tiny import tiny_examples, tiny_pair

PIXELS = Normalisation(np.float32(0), np.float32(255))


def stroke(shear: float, thickness: int = 3, ink: float = 1.0) -> np.ndarray:
    """A vertical stroke of 16 pixels, sheared: to the right at its top where positive."""
    picture = np.zeros((1, 28, 28))
    for row in range(6, 22):
        start = round(13 + shear * (13.5 - row))
        picture[0, row, start : start + thickness] = ink
    return picture


def test_measures_of_pictures():
    found = of_pictures(np.stack([stroke(0), stroke(0.5), stroke(-0.5), stroke(0, 7)]))
    assert found["slant"] == pytest.approx([0, 0.5, -0.5, 0], abs=0.03)
    assert found["boldness"] == pytest.approx(np.array([48, 48, 48, 112]) / 784)
    # A stroke n pixels wide has the variance (n² - 1) / 12 across.
    assert found["width"][[0, 3]] == pytest.approx([np.sqrt(8 / 12), np.sqrt(48 / 12)])
    assert all(np.isfinite(of_pictures(np.zeros((1, 1, 28, 28)))[m]).all() for m in found)


def test_measures_of_spectra():
    values = np.full((3, 9, 5), -50.0, np.float32)
    values[0, :4, 1] = 2.0
    values[1, :9, 3] = 2.0
    values[2, :2, 3] = 4.0
    values[2, 2:] = 99.0  # padding, whatever it holds
    found = of_spectra(values, np.array([4, 9, 2]))
    assert found["duration"].tolist() == [4, 9, 2]
    assert found["loudness"] == pytest.approx(np.array([2, 2, 4]) - np.log(5))
    assert found["brightness"] == pytest.approx([1, 3, 3])


def test_diversity_is_of_the_spread_within_classes():
    rng = np.random.default_rng(0)

    def pictures(spread: float) -> Observation:
        shears = np.repeat([-0.4, 0.4], 300) + spread * rng.normal(size=600)
        return Observation(torch.from_numpy(np.stack([stroke(s) for s in shears])).float())

    classes = np.repeat([0, 1], 300)
    plain = Normalisation(np.float32(0), np.float32(1))
    half = diversity(pictures(0.05), pictures(0.1), classes, classes, plain)
    assert half["slant"] == pytest.approx(0.5, abs=0.06)
    prototypes = diversity(pictures(0.0), pictures(0.1), classes, classes, plain)
    assert prototypes["slant"] == pytest.approx(0, abs=1e-9)
    assert prototypes["boldness"] is None  # all real ones have the same
    # A class that was generated once says nothing.
    once = np.array([0] * 599 + [1])
    assert diversity(pictures(0.1), pictures(0.1), once, once, plain)["slant"] is not None


def test_nothing_has_no_diversity():
    """Not one example was of the right class."""
    none, lengths = torch.zeros(0, 9, 5), torch.zeros(0, dtype=torch.int64)
    real = Observation(torch.randn(6, 9, 5), torch.full((6,), 9))
    nobody = np.zeros(0, np.int64)
    found = diversity(Observation(none, lengths), real, nobody, np.arange(6) % 2, Normalisation())
    assert found == {"duration": None, "loudness": None, "brightness": None}


def examples(shears: np.ndarray) -> Examples:
    pictures = np.stack([stroke(s, ink=255) for s in shears]).astype(np.uint8)
    return Examples(pictures, np.zeros(len(shears), np.int64), PIXELS)


def kept(monkeypatch, images, locs, shears):
    """The kept slant, with these posterior means and a decoder of strokes of these shears."""

    def draw(model, latents, names):
        made = np.stack([stroke(shear) for shear in shears(latents).tolist()])
        return {"image": Observation(torch.from_numpy(made).float())}

    monkeypatch.setattr("pvae_pyro.evaluate.run.posterior_locs", locs)
    monkeypatch.setattr(styles, "decode", draw)
    return style_kept(None, {"image": None}, {"image": images})["image"]["slant"]


def test_style_kept_correlates_with_the_styles_example(monkeypatch):
    """By a decoder whose picture leans as z_style says, inferred as the example leans."""
    some = examples(np.linspace(-0.6, 0.6, 200))

    def locs(guide, name, of, device):
        slant = of_pictures(of.values / 255)["slant"][:, None]
        return {"z_sem": np.zeros_like(slant), "z_style_image": slant.astype(np.float32)}

    found = kept(monkeypatch, some, locs, lambda latents: latents["z_style_image"][:, 0])
    assert found["style"] > 0.98
    assert abs(found["content"]) < 0.25
    assert found["reconstruction"] > 0.98


def test_what_follows_the_class_alone_is_no_style(monkeypatch):
    """A decoder that knows the content's class and nothing else, of classes that lean apart."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=400)
    pictures = examples(0.8 * labels - 0.4 + 0.05 * rng.normal(size=400))
    some = Examples(pictures.values, labels, PIXELS)

    def locs(guide, name, of, device):
        content = of.labels[:, None].astype(np.float32)
        return {"z_sem": content, "z_style_image": np.zeros_like(content)}

    def shears(latents):
        return 0.8 * latents["z_sem"][:, 0] - 0.4 + 0.05 * torch.randn(len(latents["z_sem"]))

    found = kept(monkeypatch, some, locs, shears)
    assert all(abs(correlation) < 0.2 for correlation in found.values())


def test_styles_of_a_model_and_of_speakers():
    model, guide = tiny_pair()
    tiny = tiny_examples(60, 60)
    speech = tiny["speech"]
    voices = ["a", "b"] * 30
    test = {**tiny, "speech": Examples(**{**vars(speech), "groups": voices})}

    def always_a(observation):
        return torch.tensor([[1.0, 0.0]]).expand(len(observation.value), -1)

    judges = {"speech": (always_a, ["a", "b"])}
    found = style_kept(model, guide.unimodal, test, speakers=judges)
    assert found["speech"]["speaker"]["real"] == pytest.approx(0.5)
    assert found["speech"]["speaker"]["real_chance"] == pytest.approx(0.5)
    assert found["speech"]["speaker"]["of_style"] == pytest.approx(0.5, abs=0.2)
    assert set(found["image"]) == {"slant", "width", "boldness"}
    alone = Examples(**{**vars(speech), "groups": ["a"] * 60})
    found = style_kept(model, guide.unimodal, {**tiny, "speech": alone}, speakers=judges)["speech"][
        "speaker"
    ]
    of_others = dict.fromkeys(
        ("of_style", "of_style_chance", "of_content", "of_content_chance"), None
    )
    assert found == {**of_others, "real": 1.0, "real_chance": 1.0}
    few = {name: of.take(np.arange(10)) for name, of in test.items()}
    assert style_kept(model, guide.unimodal, few) == {}
