"""A study: its runs, table and figure."""

import json

import pytest
from matplotlib.figure import Figure

from pvae_pyro.experiments import evaluate, study
from pvae_pyro.experiments.support.options import make_parser
from pvae_pyro.experiments.support.study_rows import markdown
from pvae_pyro.figures.scores_by_fraction import scores_by_fraction_figure


def a_run(row, seed, purity, **figures):
    config = {"preset": "quick", "batch_size": 64, "objective": "ours"}
    of = {"stand_in": False, "corpus": "some corpus", "steps": 10 + seed, "config": config}
    figures = {"purity z_sem a": purity, "coherence a->b": 0.5, **figures}
    return {"row": row, "seed": seed, **of, "figures": figures}


def test_table_by_hand():
    runs = [
        a_run("0", 0, 0.9, elbo=-10.0),
        a_run("0", 1, 0.8, elbo=-12.0),
        a_run("0.5 dropped", 0, 0.7, **{"seconds a step": 0.12345}),
    ]
    text = markdown({"study": "missing", "runs": runs})
    assert "| | 0 | 0.5 dropped |" in text
    assert "| purity z_sem a | 85.0 ± 7.1 | 70.0 |" in text
    assert "| elbo | -11.0 ± 1.4 | – |" in text
    assert "| seconds a step | – | 0.123 |" in text
    assert "10 to 11 steps of 64" in text
    assert "seeds 0, 1" in text


def test_figure_has_a_line_for_each_kind_and_name():
    runs = [a_run("0", 0, 0.9), a_run("0.5", 0, 0.8), a_run("0.5", 1, 0.6), a_run("0.5 cut", 0, 1)]
    figure = scores_by_fraction_figure(runs, "fraction")
    assert isinstance(figure, Figure)
    lines = {line.get_label(): line for line in figure.axes[0].lines if line.get_label()[0] != "_"}
    assert set(lines) == {"a", "a cut"}
    assert lines["a"].get_xydata().tolist() == [[0, 0.9], [0.5, 0.7]]
    assert figure.axes[0].get_xlabel() == "fraction"


def test_a_stand_in_is_told_of_whichever_row_it_is():
    runs = [a_run("two", 0, 0.9, elbo=-1.0), a_run("three", 0, 0.8, elbo=-2.0)]
    runs[1] |= {"stand_in": True, "corpus": "another"}
    text = markdown({"study": "modalities", "runs": runs})
    assert "* two: some corpus\n* three: STAND-IN: another" in text
    assert "| elbo" not in text
    assert "left out, being of different things" in text
    assert "| elbo" in markdown({"study": "priors", "runs": runs})


def test_rows_are_options_of_a_run():
    for rows in study.STUDIES.values():
        for options in rows.values():
            make_parser(None).parse_args(options)


def test_wrong_usage(capsys):
    for words, told in (
        (["missing", "--rows", "0.1"], "no row 0.1"),
        (["missing", "--seed", "3"], "not to be given"),
        (["priors", "--prior=flow"], "not to be given"),
    ):
        with pytest.raises(SystemExit):
            study.main(words)
        assert told in capsys.readouterr().err


@pytest.mark.usefixtures("environment")
def test_command(small, tmp_path, capsys, monkeypatch):
    quickly = ["--judge-steps", "5", "--num-samples", "2", "--likelihood-examples", "4"]
    of_one = evaluate.main
    monkeypatch.setattr(evaluate, "main", lambda words: of_one([*words, *quickly]))
    options = [*small[2:], "--dataset", small[1], "--epochs", "1", "--out", str(tmp_path)]
    options = [word for word in options if word != "--no-report"]
    words = ["paired", "--rows", "1", "0.25", "--limit", "6", *options]
    assert study.main(words) == 0
    assert "| purity z_sem speech |" in capsys.readouterr().out
    content = json.loads((tmp_path / "study.json").read_text())
    first, second = content["runs"]
    assert [run["row"] for run in content["runs"]] == ["1", "0.25"]
    assert first["num_examples"]["train"] == 12
    assert second["num_examples"] == {"train": 36, "complete": 3, "test": 12}
    assert "presence" in second["subsets"]["speech"]
    assert "presence" not in first["subsets"]["speech"]
    assert "unseen" not in first
    assert (tmp_path / "study.png").stat().st_size > 10_000
    before = (tmp_path / "1-seed0" / "checkpoint.safetensors").stat().st_mtime_ns
    assert study.main([*words[:2], "0.25", *words[4:]]) == 0  # takes what is there
    assert [run["row"] for run in json.loads((tmp_path / "study.json").read_text())["runs"]] == [
        "1",
        "0.25",
    ]
    assert (tmp_path / "1-seed0" / "checkpoint.safetensors").stat().st_mtime_ns == before
