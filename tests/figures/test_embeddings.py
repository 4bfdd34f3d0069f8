import numpy as np
from matplotlib.colors import to_rgba

from pvae_pyro.figures.embeddings import embed, pooled_figure, scatter_figure
from pvae_pyro.figures.style import class_colours

CLASSES = ["zero", "one", "two"]


def clusters(count=60, dim=5, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return 10 * np.eye(3, dim)[labels] + rng.normal(size=(count, dim)), labels


def drawn(axes):
    """Point -> colour."""
    (scatter,) = axes.collections
    points = zip(scatter.get_offsets(), scatter.get_facecolors(), strict=True)
    return {tuple(np.asarray(point, float)): tuple(colour) for point, colour in points}


def legend_of(figure):
    (legend,) = figure.legends
    keys = zip(legend.get_texts(), legend.legend_handles, strict=True)
    return {text.get_text(): to_rgba(key.get_color()) for text, key in keys}


def test_embed_keeps_clusters_together():
    latents, labels = clusters()
    points = embed(latents, perplexity=10)
    assert points.shape == (60, 2)
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(1)] == labels).all()
    assert (embed(latents, perplexity=10) == points).all()
    assert embed(latents[:4]).shape == (4, 2)


def test_scatter_colours_by_class():
    rng = np.random.default_rng(0)
    points = {"a": rng.normal(size=(6, 2)), "b": rng.normal(size=(4, 2))}
    labels = {"a": np.array([0, 1, 2, 0, 1, 2]), "b": np.array([2, 2, 0, 1])}
    figure = scatter_figure(points, labels, CLASSES, "number")
    colours = {name: to_rgba(colour) for name, colour in class_colours(CLASSES).items()}
    for axes, name in zip(figure.axes, points, strict=True):
        assert axes.get_title() == name
        found = drawn(axes)
        assert len(found) == len(points[name])
        for point, label in zip(points[name], labels[name], strict=True):
            assert found[tuple(point)] == colours[CLASSES[label]]
    assert figure.legends[0].get_title().get_text() == "number"
    assert legend_of(figure) == colours


def test_pooled_is_coloured_by_class_and_by_modality():
    points = np.random.default_rng(0).normal(size=(250, 2))
    labels, modalities = np.arange(250) % 3, np.arange(250) % 2
    figure = pooled_figure(points, labels, modalities, CLASSES, ["a", "b"], "number")
    by_class, by_modality = (drawn(axes) for axes in figure.axes)
    legend = legend_of(figure)
    assert [*legend] == [*CLASSES, " ", "a", "b"]
    assert len(set(legend.values())) == 6
    for point, label, modality in zip(map(tuple, points), labels, modalities, strict=True):
        assert by_class[point] == legend[CLASSES[label]]
        assert by_modality[point] == legend["ab"[modality]]


def test_many_classes_have_a_colour_each():
    classes = [str(n) for n in range(36)]
    points = np.random.default_rng(0).normal(size=(36, 2))
    figure = scatter_figure({"": points}, {"": np.arange(36)}, classes)
    assert len(set(drawn(figure.axes[0]).values())) == 36
