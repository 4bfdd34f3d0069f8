"""Every command works on a run on pairs without labels, some of them incomplete."""

import json
import shutil

import pytest
from matplotlib.figure import Figure

from pvae_pyro.experiments import (
    criticise,
    evaluate,
    figures,
    generate,
    prepare,
    report,
    run_svi,
)
from pvae_pyro.experiments.support.measured_figures import figures_of
from pvae_pyro.experiments.support.results import read_results
from pvae_pyro.experiments.support.saved_run import open_run, read_config
from pvae_pyro.experiments.support.tables import collect, side_by_side
from pvae_pyro.figures import grids
from tests.conftest import made_once, train
from tests.support import configs
from tests.support.tiny_pairs import write_pairs

TINY = ["--num-cells", "8", "--batch-size", "4", "--device", "cpu", "--no-report"]
QUICK = ["--judge-steps", "2", "--num-samples", "2", "--likelihood-examples", "8", "--limit", "8"]
UNLABELLED = {"purity", "nmi", "probes", "coherence", "subsets", "recognised"}


@pytest.fixture(scope="module")
def trained(shared, cache):
    """The folder of the pairs, in which `run` is a run on them."""

    def make(folder):
        dataset = ["--dataset", f"pairs:{write_pairs(folder)}"]
        train([*dataset, *TINY, "--epochs", "2", "--out", str(folder / "run")], cache)

    return made_once(shared / "pairs", make)


@pytest.fixture
def folder(trained, tmp_path, environment):
    """A copy of the run, beside the pairs that it was trained on."""
    shutil.copytree(trained / "run", tmp_path / "run")
    for name in ("labels.csv", "test0.wav", "test0.png"):
        shutil.copy(trained / name, tmp_path)
    return tmp_path


def read(folder, name):
    return json.loads((folder / "run" / name).read_text())


def test_training_needs_no_labels(trained, environment):
    config = read_config(trained / "run")
    assert config.modalities == ("speech", "image")
    assert config.pairs == "fixed"
    found = read_results(trained / "run" / "results.json")
    assert (found.classes, found.purity) == ([], {})
    assert found.active_units.keys() == {"z_sem", "z_style"}
    assert found.not_scored.startswith("purity, nmi, ari, hungarian need labels")
    assert found.model_extra["num_examples"] == {"train": 12, "complete": 9, "test": 10}
    assert "need labels" in (trained / "run" / "run.log").read_text()
    assert any("12 rows, 9 of them complete" in remark for remark in found.remarks)


def test_what_needs_labels_is_left_out_and_named(folder, capsys):
    run = str(folder / "run")
    assert evaluate.main([run, *QUICK]) == 0
    found = read(folder, "evaluation.json")
    assert set(found["needs_labels"]) >= UNLABELLED
    assert not found.keys() & UNLABELLED
    assert "needs labels: purity, " in capsys.readouterr().out
    partner = found["retrieval"]["z_sem"]["partner"]
    assert partner["speech->image"]["num_queries"] == 8  # 10 test rows, one lacks each modality
    assert partner["speech->image"]["chance_recall_at_1"] == pytest.approx(1 / 9)
    assert found["style_swap"]["image"].keys() == {
        "style_follows", "style_follows_chance", "num_examples",
    }  # fmt: skip
    assert found["fidelity"]["image"]["reconstruction"]["error"] > 0
    assert found["log_likelihood"]["num_examples"] == 8
    assert found["num_classes"]["z_sem"]["image"].keys()
    text = side_by_side("pairs", [collect("one", read_results(folder / "run" / "results.json"))])
    assert "elbo" in text
    assert list(figures_of(found))


def test_labels_are_given_to_score_alone(folder):
    run, labels = str(folder / "run"), str(folder / "labels.csv")
    only = ["--only", "purity", "retrieval", "subsets"]
    assert evaluate.main([run, *QUICK, *only]) == 0
    assert "purity" not in read(folder, "evaluation.json")
    assert evaluate.main([run, *QUICK, *only, "--labels", labels]) == 0
    found = read(folder, "evaluation.json")
    assert found["classes"] == ["a", "b"]
    assert found["needs_labels"] == []
    assert found["purity"].keys() == {"z_sem", "z_style"}
    assert {"speech->image", "partner"} <= found["retrieval"]["z_sem"].keys()
    assert found["subsets"]["speech+image"]["product"]["purity"] > 0
    assert evaluate.main([run, *QUICK, *only]) == 0  # without, nothing of them is left
    assert "purity" not in read(folder, "evaluation.json")


def test_labels_of_other_files_are_an_error(folder, capsys):
    (folder / "labels.csv").write_text("path,label\nnone.wav,a\n")
    labels = ["--labels", str(folder / "labels.csv")]
    assert evaluate.main([str(folder / "run"), *QUICK, *labels]) == 1
    assert "labels.csv: has no label of train0.wav or train0.png" in capsys.readouterr().err


def test_figures_show_examples_in_place_of_classes(folder, monkeypatch):
    titles = []

    def panel_grid_figure(rows, columns, title):
        titles.append((columns, [row.name for row in rows]))
        return Figure(figsize=(1, 1))

    monkeypatch.setattr(grids, "panel_grid_figure", panel_grid_figure)
    kinds = ["translate", "joint", "tsne"]
    assert figures.main([str(folder / "run"), "--formats", "png", "--only", *kinds]) == 0
    names = {file.stem for file in (folder / "run" / "figures").glob("*.png")}
    assert {"translate-speech-to-image", "joint-from-image", "tsne-z_sem-pooled"} <= names
    columns, rows = titles[0]
    of_test = {f"test{n}" for n in range(10)}
    assert {*columns[1:]} == of_test - {"test3"}  # the sound of row 3 is missing
    assert {*rows[1:]} == of_test - {"test7"}


def test_a_report_shows_examples_in_place_of_classes(folder, monkeypatch):
    run = str(folder / "run")
    monkeypatch.setattr(report, "FIGURES", ["curves"])
    assert report.main([run]) == 0
    page = (folder / "run" / "report.html").read_text()
    assert "none: the data have no labels" in page
    assert "need labels, which the data do not have" in page
    assert "Image from speech" in page


def test_criticism_is_of_complete_pairs(folder):
    few = ["--limit", "20", "--num-samples", "3", "--likelihood-examples", "20"]
    assert criticise.main([str(folder / "run"), *few, "--importance-samples", "30"]) == 0
    assert read(folder, "criticism.json")["importance"]["joint"]["num_examples"] == 8


def test_translations(folder):
    for source in ("test0.wav", "test0.png"):
        out = folder / f"of-{source}"
        words = ["--from", str(folder / source), "--out", str(out), "--draws", "1"]
        assert generate.main(["translate", str(folder / "run"), *words]) == 0
        assert (out / "sheet.png").exists()


def test_a_run_is_resumed(folder):
    words = ["--resume", str(folder / "run"), "--epochs", "3", "--no-report"]
    assert run_svi.main(words) == 0
    assert read(folder, "results.json")["epochs"] == 3


def test_prepare_checks_a_file_of_pairs(trained, tmp_path, environment, capsys):
    dataset = ["--dataset", f"pairs:{trained}/pairs.csv"]
    assert prepare.main([*dataset, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "train: 12 rows, 9 of them complete: 10 with speech (10 different)" in printed
    assert "classes: none: the file has no labels" in printed
    assert json.loads((tmp_path / "report.json").read_text())["rows"] == {"train": 12, "test": 10}
    (tmp_path / "bad.csv").write_text("speech,image\na.wav,a.png\n")
    assert prepare.main(["--dataset", f"pairs:{tmp_path}/bad.csv", "--out", str(tmp_path)]) == 1
    assert "bad.csv: has no column split" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "train_examples"),
    [
        (["--missing", "0.3"], None),
        (["--drop-incomplete"], 9),
        (["--model", "vae-image"], 11),
        (["--modalities", "image,speech", "--objective", "paper", "--epochs", "1"], 12),
        (["--hold-out", "0.3"], None),
        (["--model", "jmvae"], 12),
    ],
)
def test_options_on_top(trained, tmp_path, environment, words, train_examples):
    dataset = ["--dataset", f"pairs:{trained}/pairs.csv"]
    out = tmp_path / "run"
    assert run_svi.main([*dataset, *TINY, "--epochs", "1", *words, "--out", str(out)]) == 0
    found = json.loads((out / "results.json").read_text())
    counts = found["num_examples"]
    assert counts["train"] == (train_examples or counts["train"])
    if "--missing" in words:
        assert counts["complete"] < 9
    if "--hold-out" in words:
        assert counts["train"] + counts["test"] == 12
    open_run(out)


def test_labels_in_the_file_score_but_do_not_train(trained, tmp_path, environment):
    """The weights are those of the run without labels, bit for bit."""
    dataset = ["--dataset", f"pairs:{write_pairs(tmp_path, label=True)}"]
    out = tmp_path / "run"
    assert run_svi.main([*dataset, *TINY, "--epochs", "2", "--out", str(out)]) == 0
    found, other = (read_results(path / "results.json") for path in (out, trained / "run"))
    assert found.classes == ["a", "b"]
    assert found.purity["z_sem"].keys() == {"speech", "image"}
    assert found.test_terms == other.test_terms


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--paired", "0.5"], "--paired cannot be given: the rows of pairs:FILE.csv are the pairs"),
        (["--pairs", "anew"], "--pairs anew cannot be given"),
        (["--modality", "spanish=speech:secuvoice"], "give pairs:FILE.csv a column for it"),
    ],
)
def test_options_that_contradict_known_pairs(words, message, capsys):
    with pytest.raises(SystemExit):
        configs.asked("--dataset", "pairs:my.csv", *words)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "vae-touch"], "has the modalities speech, image"),
        (["--modalities", "speech,touch"], "has no column touch, which --modalities names"),
        (["--unseen-classes", "a"], "no class a: the data have no labels"),
        (["--classes", "a"], "--classes needs labels"),
        (["--oh", "drop"], "--oh: not an option of pairs:FILE.csv"),
    ],
)
def test_options_that_the_file_does_not_allow(
    trained, tmp_path, environment, words, message, capsys
):
    dataset = ["--dataset", f"pairs:{trained}/pairs.csv"]
    assert run_svi.main([*dataset, *TINY, *words, "--out", str(tmp_path / "run")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
