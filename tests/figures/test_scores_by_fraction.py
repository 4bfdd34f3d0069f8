"""Scores against a fraction."""

from matplotlib.figure import Figure

from pvae_pyro.figures.scores_by_fraction import scores_by_fraction_figure


def test_a_line_for_each_kind_and_name():
    purities = [("0", 0.9), ("0.5", 0.8), ("0.5", 0.6), ("0.5 cut", 1)]
    runs = [
        {"row": row, "figures": {"purity z_sem a": purity, "coherence a->b": 0.5}}
        for row, purity in purities
    ]
    figure = scores_by_fraction_figure(runs, "fraction")
    assert isinstance(figure, Figure)
    lines = {line.get_label(): line for line in figure.axes[0].lines if line.get_label()[0] != "_"}
    assert set(lines) == {"a", "a cut"}
    assert lines["a"].get_xydata().tolist() == [[0, 0.9], [0.5, 0.7]]
    assert figure.axes[0].get_xlabel() == "fraction"
