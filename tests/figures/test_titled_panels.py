import numpy as np

from pvae_pyro.figures.observations import SequenceAxes
from pvae_pyro.figures.titled_panels import titled_panels_figure

PICTURE, VECTOR = np.arange(784.0).reshape(28, 28), np.arange(5.0)[None]
SHORT, LONG = np.zeros((6, 20)), np.ones((6, 50))
SOUND = SequenceAxes(0.5, np.arange(6.0))


def test_a_panel_under_each_title():
    sound = SequenceAxes(0.01, np.arange(6.0))
    figure = titled_panels_figure(
        [PICTURE, VECTOR, SHORT, LONG], "abcd", [None, None, sound, sound]
    )
    assert [axes.get_title() for axes in figure.axes] == list("abcd")
    for axes, panel in zip(figure.axes, (PICTURE, VECTOR, SHORT, LONG), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), panel)
    maps = [axes.images[0].get_cmap().name for axes in figure.axes]
    assert maps == ["gray", "viridis", "magma", "magma"]
    *_, short, long = figure.axes
    assert short.images[0].get_clim() == long.images[0].get_clim()
    assert short.get_xlim() == long.get_xlim() == (0, 0.5)
    assert [axes.get_xlabel() for axes in (short, long)] == ["0.20 s", "0.50 s"]


def test_axes_of_each_panel_and_a_second_row():
    figure = titled_panels_figure([SHORT] * 9, "a" * 9, [SOUND, *[SequenceAxes()] * 8])
    assert [axes.get_xlabel() for axes in figure.axes[:2]] == ["10.00 s", "20 frames"]
    assert [axes.axison for axes in figure.axes] == [True] * 9 + [False] * 7


def test_pictures_of_any_size_and_colour_are_no_sequences():
    grey, coloured = np.arange(1600.0).reshape(40, 40), np.zeros((40, 40, 3))
    coloured[:20, :, 0], coloured[20:, :, 2] = 255, 51
    figure = titled_panels_figure([grey, coloured, SHORT], "abc", [None, None, SOUND])
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "10.00 s"]
    drawn = figure.axes[1].images[0].get_array()
    assert drawn[0, 0].tolist() == [1, 0, 0]
    assert drawn[-1, 0].tolist() == [0, 0, 0.2]
