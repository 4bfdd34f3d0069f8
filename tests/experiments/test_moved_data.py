"""Data that have moved since a run: they are found by options, and must be the same data."""

import json
import shutil

import pytest

from pvae_pyro.experiments import evaluate, figures, run_svi
from pvae_pyro.experiments.support import study_runs
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.saved_run import open_run, read_config
from tests.support import configs
from tests.support.tiny_run import small_corpus


@pytest.fixture(scope="module")
def begun(environment, tmp_path_factory):
    """A finished run, whose data are then moved."""
    folder = tmp_path_factory.mktemp("moved")
    (folder / "before").mkdir()
    options = [*small_corpus(folder / "before", copies=2), "--epochs", "1"]
    assert run_svi.main([*options, "--out", str(folder / "run")]) == 0
    (folder / "before").rename(folder / "now")
    (folder / "now" / "words.csv").rename(folder / "now" / "renamed.csv")
    return folder


@pytest.fixture
def moved(begun, tmp_path):
    """A copy of that run, and the options that say where its data lie now."""
    shutil.copytree(begun / "run", tmp_path / "run")
    options = [
        *("--dataset", f"manifest:{begun}/now/renamed.csv"),
        *("--image-dataset", f"manifest:{begun}/now/drawings.csv"),
    ]
    return tmp_path / "run", options


def now(options):
    return dict(zip(("dataset", "image_dataset"), options[1::2], strict=True))


def test_an_error_names_the_options_for_data_that_moved(moved, capsys):
    run, _ = moved
    for command, arguments in ((run_svi, ["--resume"]), (evaluate, []), (figures, [])):
        assert command.main([*arguments, str(run)]) == 1
        error = capsys.readouterr().err
        assert all(word in error for word in ("before/words.csv", "--dataset", "--data"))


def test_a_run_is_resumed_where_its_data_lie_now(moved):
    run, options = moved
    assert run_svi.main(["--resume", str(run), "--epochs", "2", "--no-report", *options]) == 0
    assert read_config(run).dataset == options[1]
    assert run_svi.main(["--resume", str(run), "--epochs", "3", "--no-report"]) == 0  # kept


def test_a_run_is_evaluated_where_its_data_lie_now(moved, capsys):
    run, options = moved
    assert evaluate.main([str(run), "--only", "purity", *options]) == 0
    assert figures.main([str(run), "--only", "curves", *options]) == 0


def test_other_data_are_refused(moved, begun, tmp_path, capsys):
    run, _ = moved
    (tmp_path / "other").mkdir()
    other = small_corpus(tmp_path / "other", copies=3)[:4]
    before = json.loads((run / "config.json").read_text("utf-8"))["data_digest"]
    for command, arguments in ((run_svi, ["--resume"]), (evaluate, [])):
        assert command.main([*arguments, str(run), *other]) == 1
        error = capsys.readouterr().err
        assert "begun on other data" in error
        assert before in error


def test_config_json_may_be_edited_to_the_new_place(moved):
    run, _ = moved
    text = (run / "config.json").read_text("utf-8")
    text = text.replace("before/words", "now/renamed").replace("/before/", "/now/")
    (run / "config.json").write_text(text, "utf-8")
    assert run_svi.main(["--resume", str(run), "--no-report"]) == 0


def test_a_study_takes_runs_whose_data_moved_and_no_others(moved, begun, tmp_path, capsys):
    run, options = moved
    of_all = ["--num-cells", "8", "--epochs", "1"]
    assert study_runs.run_one(run, configs.asked(*options, *of_all)) == 0
    assert open_run(run, None, "cpu", now(options))
    (tmp_path / "other").mkdir()
    other = small_corpus(tmp_path / "other", copies=3)[:4]
    with pytest.raises(RunError, match="other data"):
        study_runs.run_one(run, configs.asked(*other, *of_all))
