from pvae_pyro.figures.inertia import inertia_figure

FOUND = {
    "agreed": 3,
    "criteria": {"silhouette": 3, "gap": 3, "prediction_strength": 2},
    "inertia": [90.0, 40.0, 10.0, 9.0, 8.5],
}


def test_curve_and_the_numbers_found():
    figure = inertia_figure({"a": FOUND, "b": FOUND | {"agreed": 2}})
    assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
    assert figure.axes[0].get_ylabel() == "inertia"
    for axes, agreed in zip(figure.axes, (3, 2), strict=True):
        assert axes.get_xlabel() == "number of clusters"
        curve, line, *rings = axes.lines
        assert list(curve.get_xdata()) == [1, 2, 3, 4, 5]
        assert list(curve.get_ydata()) == FOUND["inertia"]
        assert list(line.get_xdata()) == [agreed, agreed]
        assert [(*ring.get_xdata(), *ring.get_ydata()) for ring in rings] == [
            (3, 10.0),
            (3, 10.0),
            (2, 40.0),
        ]
        assert len({ring.get_markersize() for ring in rings}) == 3  # all to be seen
        assert [text.get_text() for text in axes.get_legend().get_texts()] == [
            f"agreed: {agreed}",
            "silhouette: 3",
            "gap: 3",
            "prediction strength: 2",
        ]


def test_a_criterion_beyond_the_curve_is_in_the_legend():
    figure = inertia_figure({"a": FOUND | {"criteria": {"gap": 3, "density": 17}}})
    (axes,) = figure.axes
    assert [len(line.get_xdata()) for line in axes.lines] == [5, 2, 1, 0]
    assert "density: 17" in [text.get_text() for text in axes.get_legend().get_texts()]
