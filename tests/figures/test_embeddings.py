import numpy as np
import pytest
from matplotlib.colors import to_rgba

from pvae_pyro.figures.embeddings import choose, embed, pooled_figure, scatter_figure
from pvae_pyro.figures.style import class_colours

CLASSES = ["zero", "one", "two"]


def clusters(count=60, dim=5, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return 10 * np.eye(3, dim)[labels] + rng.normal(size=(count, dim)), labels


def drawn(axes):
    """Point -> colour, marker's vertices."""
    found = {}
    for scatter in axes.collections:
        outline = scatter.get_paths()[0].vertices.tobytes()
        for point, colour in zip(scatter.get_offsets(), scatter.get_facecolors(), strict=True):
            found[tuple(np.asarray(point, float))] = tuple(colour), outline
    return found


def test_choose():
    assert sorted(choose(7, most=10)) == list(range(7))
    chosen = choose(100, most=10, seed=3)
    assert len(set(chosen.tolist())) == 10
    assert set(chosen.tolist()) <= set(range(100))
    assert (choose(100, 10, seed=3) == chosen).all()
    assert (choose(100, 10, seed=4) != chosen).any()
    with pytest.raises(ValueError, match="no example"):
        choose(0)


def test_embed_keeps_clusters_together():
    latents, labels = clusters()
    points = embed(latents, perplexity=10)
    assert points.shape == (60, 2)
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(1)] == labels).all()
    assert (embed(latents, perplexity=10) == points).all()


@pytest.mark.parametrize("count", [4, 5, 20])
def test_embed_few_points(count):
    points = embed(clusters(count)[0])
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (np.zeros((0, 3)), "4 points or more, got 0"),
        (np.eye(3), "4 points or more, got 3"),
        (np.ones((9, 3)), "the same"),
    ],
)
def test_embed_refuses(latents, message):
    with pytest.raises(ValueError, match=message):
        embed(latents)


def test_scatter_colours_by_class():
    rng = np.random.default_rng(0)
    points = {"a": rng.normal(size=(6, 2)), "b": rng.normal(size=(4, 2))}
    labels = {"a": np.array([0, 1, 2, 0, 1, 2]), "b": np.array([2, 2, 0, 1])}
    figure = scatter_figure(points, labels, CLASSES, "number")
    colours = class_colours(CLASSES)
    for axes, name in zip(figure.axes, points, strict=True):
        assert axes.get_title() == name
        assert len(axes.get_xticks()) == len(axes.get_yticks()) == 0  # no units
        found = drawn(axes)
        assert len(found) == len(points[name])
        for point, label in zip(points[name], labels[name], strict=True):
            assert found[tuple(point)][0] == to_rgba(colours[CLASSES[label]])
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "number"
    assert [text.get_text() for text in legend.get_texts()] == CLASSES
    keys = [to_rgba(key.get_color()) for key in legend.legend_handles]
    assert keys == [to_rgba(colours[name]) for name in CLASSES]


def test_pooled_has_markers_of_modalities_and_both_colourings():
    points = np.random.default_rng(0).normal(size=(250, 2))
    labels, modalities = np.arange(250) % 3, np.arange(250) % 2
    figure = pooled_figure(points, labels, modalities, CLASSES, ["a", "b"], "number")
    by_class, by_modality = (drawn(axes) for axes in figure.axes)
    assert len(by_class) == len(by_modality) == 250
    colours = class_colours(CLASSES)
    markers, modality_colours = [set(), set()], [set(), set()]
    for point, label, modality in zip(map(tuple, points), labels, modalities, strict=True):
        assert by_class[point][0] == to_rgba(colours[CLASSES[label]])
        markers[modality] |= {by_class[point][1], by_modality[point][1]}
        modality_colours[modality].add(by_modality[point][0])
    # One marker, one colour, for each; not the other's.
    for kinds in (markers, modality_colours):
        assert [len(kind) for kind in kinds] == [1, 1]
        assert kinds[0] != kinds[1]
    legend = {
        text.get_text(): key
        for text, key in zip(
            figure.legends[0].get_texts(), figure.legends[0].legend_handles, strict=True
        )
    }
    assert [*legend] == [*CLASSES, " ", "a", "b"]
    for n, name in enumerate("ab"):
        assert {to_rgba(legend[name].get_color())} == modality_colours[n]
    assert legend["a"].get_marker() != legend["b"].get_marker()


def test_many_classes_have_a_colour_each():
    classes = [str(n) for n in range(36)]
    points = np.random.default_rng(0).normal(size=(36, 2))
    figure = scatter_figure({"": points}, {"": np.arange(36)}, classes)
    assert len({colour for colour, _ in drawn(figure.axes[0]).values()}) == 36


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), "no point"),
        (np.zeros((2, 3)), np.zeros(2, int), "want points"),
        (np.zeros((2, 2)), np.zeros(3, int), "want points"),
        (np.zeros((2, 2)), np.array([0, 3]), "from 0 to 3 of 3"),
        (np.zeros((2, 2)), np.array([-1, 0]), "from -1 to 0 of 3"),
    ],
)
def test_figures_refuse(points, labels, message):
    with pytest.raises(ValueError, match=message):
        scatter_figure({"a": points}, {"a": labels}, CLASSES)
    with pytest.raises(ValueError, match=message):
        pooled_figure(points, labels, np.zeros(len(labels), int), CLASSES, ["a"])


def test_scatter_of_nothing():
    with pytest.raises(ValueError, match="no map"):
        scatter_figure({}, {}, CLASSES)
