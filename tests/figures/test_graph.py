from itertools import combinations

import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch

from pvae_pyro.batch import Observation
from pvae_pyro.figures.graph import Graph, guide_graph, model_graph
from pvae_pyro.figures.layout import layered_layout
from pvae_pyro.figures.plate_diagram import graph_figure
from pvae_pyro.guides import PartitionedGuide
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
    assert set(graph.plates["examples"]) == graph.parents.keys() == LATENTS | graph.observed
    assert graph.families["speech"] == "RaggedNormal"
    assert {graph.families[site] for site in LATENTS} == {"Normal"}
    assert not graph.inference
    places = layered_layout(graph.parents, graph.plates)
    assert places["speech"] < places["image"]  # the order of the model, not its mirror image


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
    assert set(graph.plates["examples"]) == {"speech", "z_sem", "z_style_speech"}
    assert graph.families == {"speech": "", "z_sem": "Normal", "z_style_speech": "Normal"}
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
        graph_figure({})


def test_drawing_shades_what_is_observed_and_has_every_edge():
    model, guide = tiny_pair()
    graphs = {"p": model_graph(model, tiny_batch()), "q": guide_graph(guide, tiny_batch())}
    figure = graph_figure(graphs, labels={"z_sem": "$z$"}, families=True)
    assert [axes.get_title() for axes in figure.axes] == ["p", "q"]
    assert arrows(figure) == 7 + 6
    for panel, graph in enumerate(graphs.values()):
        drawn = nodes(figure, panel)
        assert drawn.keys() == graph.parents.keys()
        shaded = {s for s, node in drawn.items() if node.get_facecolor()[:3] != to_rgb("white")}
        assert shaded == graph.observed
        (box,) = plates(figure, panel)
        assert all(box.contains(*node.center) for node in drawn.values())
        # Latents above data, whichever way the edges go.
        for x in ("speech", "image"):
            assert all(drawn[z].center[1] > drawn[x].center[1] for z in LATENTS)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("Normal") == 5
    assert "$z$" in texts
    assert "z_sem" not in texts
    assert "examples" in texts
    plain = graph_figure({"": graphs["p"]})
    assert "Normal" not in [text.get_text() for text in plain.axes[0].texts]


def test_inference_is_dashed():
    model, guide = make_pair()
    figure = graph_figure(
        {"p": model_graph(model, make_batch()), "q": guide_graph(guide, make_batch())}
    )
    for axes, style in zip(figure.axes, ("-", "--"), strict=True):
        styles = {p.get_linestyle() for p in axes.patches if isinstance(p, FancyArrowPatch)}
        assert styles == {style}


def test_five_modalities():
    names = "abcde"
    modalities = [
        Modality(n, lambda: Flat(4), lambda dim: LinearLikelihood(dim, size=4)) for n in names
    ]
    batch = {n: Observation(torch.randn(3, 4)) for n in names}
    graph = model_graph(PVAE(modalities, 2, 2), batch)
    assert graph.edges == {(z, n) for n in names for z in ("z_sem", f"z_style_{n}")}
    places = layered_layout(graph.parents, graph.plates)
    # Data in their order, and styles above them in the same one: nothing crosses.
    assert sorted(names, key=places.__getitem__) == list(names)
    styles = sorted(names, key=lambda n: places[f"z_style_{n}"])
    assert styles == list(names)
    guide = guide_graph(PartitionedGuide(modalities, 2, 2), batch)
    assert arrows(graph_figure({"": guide})) == 5 * 6


def hierarchy(batch, observed=None):
    x = batch["x"].value
    loc = pyro.sample("loc", dist.Normal(0, 1))
    scale = pyro.sample("scale", dist.LogNormal(0, 1))
    with pyro.plate("groups", 4, dim=-2):
        group = pyro.sample("group", dist.Normal(loc, scale))
        with pyro.plate("examples", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0, 1))
            pyro.sample("x", dist.Normal(group * z, scale), obs=None if observed == () else x)


def test_nested_plates_hold_their_nodes_only():
    graph = model_graph(hierarchy, {"x": Observation(torch.randn(3))})
    assert graph.edges == {
        ("loc", "group"), ("scale", "group"), ("group", "x"), ("z", "x"), ("scale", "x"),
    }  # fmt: skip
    figure = graph_figure({"": graph})
    inner, outer = sorted(plates(figure), key=lambda box: box.width)
    for site, node in nodes(figure).items():
        left, right = node.center[0] - node.width / 2, node.center[0] + node.width / 2
        for box, plate in ((inner, "examples"), (outer, "groups")):
            if site in graph.plates[plate]:
                assert box.x0 < left < right < box.x1
            else:
                assert right < box.x0 or left > box.x1 or not box.y0 < node.center[1] < box.y1


def test_layout():
    places = layered_layout({"a": (), "b": ("a",), "c": ("a", "b"), "d": ("a",)}, {})
    assert [places[node][1] for node in "abcd"] == [0, 1, 2, 2]
    # a -> c goes past b, and c and d are not on each other.
    (a, _), (b, _), (c, _), (d, _) = (places[node] for node in "abcd")
    assert abs((a + c) / 2 - b) >= 1
    assert d - c >= 2
    assert layered_layout({"alone": ()}, {}) == {"alone": (0, 0)}
    with pytest.raises(ValueError, match="cycle"):
        layered_layout({"a": ("b",), "b": ("a",)}, {})


def test_layout_uncrosses():
    places = layered_layout({"a": (), "b": (), "c": (), "x": ("c",), "y": ("b",), "z": ("a",)}, {})
    assert sorted("abc", key=places.__getitem__) == ["c", "b", "a"]
    # Here the shortest edges would cross.
    parents = {"a": (), "b": (), "c": (), "w": "ac", "x": "bc", "y": "c", "z": "c"}
    places = layered_layout(parents, {})
    edges = [(parent, node) for node in parents for parent in parents[node]]
    for (a, b), (c, d) in combinations(edges, 2):
        assert (places[a][0] - places[c][0]) * (places[b][0] - places[d][0]) >= 0


def test_empty_plate_is_left_out():
    graph = Graph({"z": ()}, {"z": "Normal"}, frozenset(), {"nothing": ()})
    assert plates(graph_figure({"": graph})) == []


def test_titles_have_room():
    """A title wider than its diagram neither touches its neighbour's nor leaves the page."""
    graph = guide_graph(tiny_pair()[1].unimodal["image"], tiny_batch(2))
    title = "inference of style and content " * 3
    figure = graph_figure({f"{n}: {title}": graph for n in range(3)})
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [axes.title.get_window_extent(renderer) for axes in figure.axes]
    assert min(box.x0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    first, second, third = boxes
    assert first.x1 < second.x0
    assert third.y1 < second.y0  # what finds no room beside the others is below them


def test_what_is_below_is_not_on_top_of_anything():
    graph = guide_graph(tiny_pair()[1].unimodal["image"], tiny_batch(2))
    figure = graph_figure({f"inference from {n}": graph for n in range(12)})
    assert figure.get_size_inches()[0] <= 12
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
    assert len({round(box.x0) for box in boxes}) < len(boxes)  # several rows
    for one, other in combinations(boxes, 2):
        assert not one.padded(-1).overlaps(other)
    assert min(box.y0 for box in boxes) >= -1e-6
    assert max(box.y1 for box in boxes) <= figure.bbox.y1
