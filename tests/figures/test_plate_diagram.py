from itertools import combinations

import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch

from pvae_pyro.batch import Observation
from pvae_pyro.figures.plate_diagram import guide_graph, model_graph, plate_diagrams
from pvae_pyro.modality import Modality
from pvae_pyro.models import PVAE
from pvae_pyro.models.jmvae import JMVAE
from tests.support.linear_gaussian import Flat, LinearLikelihood, make_batch, make_pair
from tests.support.tiny import tiny_batch, tiny_modalities, tiny_pair

LATENTS = {"z_sem", "z_style_speech", "z_style_image"}


def arrows(figure):
    return sum(isinstance(p, FancyArrowPatch) for axes in figure.axes for p in axes.patches)


def nodes(figure, panel=0):
    return {p.get_gid(): p for p in figure.axes[panel].patches if isinstance(p, Ellipse)}


def plates(figure, panel=0):
    return [p.get_bbox() for p in figure.axes[panel].patches if isinstance(p, FancyBboxPatch)]


def test_pvae():
    model, _ = tiny_pair()
    graph = model_graph(model, tiny_batch())
    assert graph.edges == {
        ("z_sem", "speech"),
        ("z_sem", "speech_log_frames"),
        ("z_sem", "image"),
        ("z_style_speech", "speech"),
        ("z_style_speech", "speech_log_frames"),
        ("z_style_image", "image"),
        ("speech_log_frames", "speech"),  # so many frames there are
    }
    assert graph.observed == {"speech", "speech_log_frames", "image"}
    assert graph.parents.keys() == LATENTS | graph.observed
    assert graph.plate == "examples"
    assert not graph.inference


def test_what_is_generated_is_not_observed():
    model, _ = tiny_pair()
    batch = tiny_batch()
    graph = model_graph(model, {"image": batch["image"]})
    assert graph.observed == {"image"}
    assert graph.edges == model_graph(model, batch).edges
    assert model_graph(model, batch, names=["image"]).edges == {
        ("z_sem", "image"),
        ("z_style_image", "image"),
    }


def test_linear_gaussian():
    model, guide = make_pair()
    graph = model_graph(model, make_batch())
    assert graph.edges == {
        ("z_sem", "a"), ("z_style_a", "a"), ("z_sem", "b"), ("z_style_b", "b"),
    }  # fmt: skip
    assert guide_graph(guide, make_batch()).edges == {
        (x, z) for x in "ab" for z in ("z_sem", "z_style_a", "z_style_b")
    }


def test_one_latent():
    graph = model_graph(JMVAE(tiny_modalities(), 4), tiny_batch())
    assert graph.edges == {
        ("z", "speech"),
        ("z", "speech_log_frames"),
        ("z", "image"),
        ("speech_log_frames", "speech"),
    }


def test_unimodal_guide():
    _, guide = tiny_pair()
    graph = guide_graph(guide.unimodal["speech"], tiny_batch())
    assert graph.edges == {("speech", "z_sem"), ("speech", "z_style_speech")}
    assert graph.observed == {"speech"}
    assert graph.parents.keys() == {"speech", "z_sem", "z_style_speech"}
    assert graph.plate == "examples"
    assert graph.inference


def test_leaves_everything_as_it_was():
    model, guide = tiny_pair()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    model_graph(model, tiny_batch())
    guide_graph(guide, tiny_batch())
    assert torch.equal(torch.get_rng_state(), state)
    assert not pyro.get_param_store().keys()
    for name, value in model.state_dict().items():
        assert type(value) is torch.Tensor
        assert torch.equal(value, before[name])


def test_no_site():
    with pytest.raises(ValueError, match="no sample site"):
        model_graph(lambda batch, observed=(): None, {})
    with pytest.raises(ValueError, match="no sample site"):
        guide_graph(lambda batch: None, make_batch())
    with pytest.raises(ValueError, match="no graph"):
        plate_diagrams({}, {})


def test_drawing_shades_what_is_observed_and_has_every_edge():
    model, guide = tiny_pair()
    graphs = {"p": model_graph(model, tiny_batch()), "q": guide_graph(guide, tiny_batch())}
    figure = plate_diagrams(graphs, {"z_sem": "$z$"})
    assert [axes.get_title() for axes in figure.axes] == ["p", "q"]
    for axes, graph in zip(figure.axes, graphs.values(), strict=True):
        drawn = {p.get_gid(): p for p in axes.patches if isinstance(p, Ellipse)}
        assert drawn.keys() == graph.parents.keys()
        shaded = {s for s, node in drawn.items() if node.get_facecolor()[:3] != to_rgb("white")}
        assert shaded == graph.observed
        edges = [p for p in axes.patches if isinstance(p, FancyArrowPatch)]
        assert len(edges) == len(graph.edges)
        assert {p.get_linestyle() for p in edges} == {"--" if graph.inference else "-"}
        (box,) = (p.get_bbox() for p in axes.patches if isinstance(p, FancyBboxPatch))
        for node in drawn.values():
            (x, y), half = node.center, node.width / 2
            assert box.x0 < x - half < x + half < box.x1
            assert box.y0 < y < box.y1
            row = [other.center[0] for other in drawn.values() if other.center[1] == y]
            assert sum(abs(other - x) <= node.width for other in row) == 1  # itself
        # Latents above data, whichever way the edges go.
        for x in graph.observed:
            assert all(drawn[z].center[1] > drawn[x].center[1] for z in LATENTS)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"$z$", "speech", "examples"} <= set(texts)
    assert "z_sem" not in texts


def test_a_latent_is_above_what_it_generates():
    """That of five modalities in the middle; and all in the order of the model."""
    names = "abcde"
    modalities = [
        Modality(n, lambda: Flat(4), lambda dim: LinearLikelihood(dim, size=4)) for n in names
    ]
    batch = {n: Observation(torch.randn(3, 4)) for n in names}
    graph = model_graph(PVAE(modalities, 2, 2), batch)
    assert graph.edges == {(z, n) for n in names for z in ("z_sem", f"z_style_{n}")}
    (axes,) = plate_diagrams({"": graph}, {}).axes
    x = {p.get_gid(): p.center[0] for p in axes.patches if isinstance(p, Ellipse)}
    assert sorted(names, key=x.__getitem__) == list(names)
    styles = [f"z_style_{n}" for n in names]
    assert sorted(styles, key=x.__getitem__) == styles
    assert x["z_style_b"] < x["z_sem"] < x["z_style_d"]


def hierarchy(batch, observed=None):
    x = batch["x"].value
    loc = pyro.sample("loc", dist.Normal(0, 1))
    scale = pyro.sample("scale", dist.LogNormal(0, 1))
    with pyro.plate("groups", 4, dim=-2):
        group = pyro.sample("group", dist.Normal(loc, scale))
        with pyro.plate("examples", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0, 1))
            pyro.sample("x", dist.Normal(group * z, scale), obs=None if observed == () else x)


def test_other_plates_are_refused():
    with pytest.raises(ValueError, match="groups"):
        model_graph(hierarchy, {"x": Observation(torch.randn(3))})


@pytest.mark.parametrize("title", ["inference", "inference of style and content " * 3])
def test_diagrams_do_not_overlap_and_stay_on_the_page(title):
    graph = guide_graph(tiny_pair()[1].unimodal["image"], tiny_batch(2))
    figure = plate_diagrams({f"{n}: {title}": graph for n in range(12)}, {})
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    shown = [axes for axes in figure.axes if axes.patches]
    boxes = [axes.get_tightbbox(renderer) for axes in shown]
    assert len(boxes) == 12
    assert len({round(box.x0) for box in boxes}) < len(boxes)  # several rows
    for one, other in combinations(boxes, 2):
        assert not one.padded(-1).overlaps(other)
    assert min(box.y0 for box in boxes) >= -1
    assert max(box.y1 for box in boxes) <= figure.bbox.y1 + 1
    titles = [axes.title.get_window_extent(renderer) for axes in shown]
    assert min(box.x0 for box in titles) >= 0
    assert max(box.x1 for box in titles) <= figure.bbox.x1
