from matplotlib.colors import to_rgb
from matplotlib.patches import FancyArrowPatch

from pvae_pyro.figures.plate_diagram import guide_edges, model_edges, plate_diagrams
from pvae_pyro.models.jmvae import JMVAE
from tests.support.linear_gaussian import make_batch, make_pair
from tests.support.tiny import tiny_batch, tiny_modalities, tiny_pair

DATA = {"speech", "speech_log_frames", "image"}
OF_PVAE = {
    ("z_sem", "speech"),
    ("z_sem", "speech_log_frames"),
    ("z_sem", "image"),
    ("z_style_speech", "speech"),
    ("z_style_speech", "speech_log_frames"),
    ("z_style_image", "image"),
    ("speech_log_frames", "speech"),  # the number of frames
}


def test_edges_of_models():
    assert model_edges(tiny_pair()[0], tiny_batch()) == OF_PVAE
    assert model_edges(JMVAE(tiny_modalities(), 4), tiny_batch()) == {
        ("z", "speech"),
        ("z", "speech_log_frames"),
        ("z", "image"),
        ("speech_log_frames", "speech"),
    }


def test_edges_of_guides():
    guide, batch = make_pair()[1], make_batch()
    latents = ("z_sem", "z_style_a", "z_style_b")
    assert guide_edges(guide, batch) == {(name, z) for name in "ab" for z in latents}
    alone = guide_edges(guide.unimodal["a"], {"a": batch["a"]})
    assert alone == {("a", "z_sem"), ("a", "z_style_a")}


def test_diagrams_shade_data_and_dash_inference():
    inference = {("image", "z_sem"), ("image", "z_style_image")}
    diagrams = {"generation": OF_PVAE, "inference": inference}
    figure = plate_diagrams(diagrams, DATA, {"z_sem": "$z$"})
    assert [axes.get_title() for axes in figure.axes] == ["generation", "inference"]
    for axes, edges, style in zip(figure.axes, diagrams.values(), ("-", "--"), strict=True):
        arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
        assert len(arrows) == len(edges)
        assert {arrow.get_linestyle() for arrow in arrows} == {style}
        texts = {text.get_text(): text for text in axes.texts}
        assert {"$z$", "image", "examples"} <= texts.keys()
        shaded = {
            name
            for name, text in texts.items()
            if (box := text.get_bbox_patch()) and box.get_facecolor()[:3] != to_rgb("white")
        }
        assert shaded == DATA & {site for edge in edges for site in edge}
        heights = {name: text.get_position()[1] for name, text in texts.items()}
        assert heights["$z$"] > heights["image"]
