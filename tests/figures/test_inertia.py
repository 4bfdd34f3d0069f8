from pvae_pyro.figures.inertia import inertia_figure

FOUND = {"number": 3, "inertia": [90.0, 40.0, 10.0, 9.0, 8.5]}


def test_curve_and_the_numbers_found():
    figure = inertia_figure({"a": FOUND, "b": FOUND | {"number": 35}})
    assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
    assert figure.axes[0].get_ylabel() == "inertia"
    for axes, number in zip(figure.axes, (3, 35), strict=True):
        assert axes.get_xlabel() == "number of clusters"
        curve, line = axes.lines
        assert list(curve.get_xdata()) == [1, 2, 3, 4, 5]
        assert list(curve.get_ydata()) == FOUND["inertia"]
        assert list(line.get_xdata()) == [number, number]
        assert [text.get_text() for text in axes.get_legend().get_texts()] == [f"classes: {number}"]
