"""Studies: their runs and tables. All but one test train nothing."""

import json

import pytest

from pvae_pyro.experiments import evaluate, run_svi, study
from pvae_pyro.experiments.support.command import INTERRUPTED
from pvae_pyro.experiments.support.config import Options
from pvae_pyro.experiments.support.paper_table import row_of
from pvae_pyro.experiments.support.results import Evaluation, read_results
from pvae_pyro.experiments.support.saved_run import CONFIG, RESULTS
from pvae_pyro.experiments.support.study_runs import words_of
from pvae_pyro.experiments.support.tables import LIKELIHOOD, collect, side_by_side
from tests.support.configs import asked
from tests.support.trainer import Trainer, parsed


@pytest.fixture
def trainer(monkeypatch):
    trainer = Trainer()
    monkeypatch.setattr(run_svi, "main", trainer)
    return trainer


@pytest.fixture
def table1(trainer, tmp_path):
    return lambda *words: study.main(["table1", f"--out={tmp_path}", *map(str, words)])


def read(out):
    """table1.json, and table1.md as (model, latent) -> cells."""
    lines = [line for line in (out / "table1.md").read_text().splitlines() if line[:2] == "| "]
    cells = [line.strip("| ").split(" | ") for line in lines]
    content = json.loads((out / "table1.json").read_text())
    return content, {(row[0], row[1]): row[2:] for row in cells}


def test_table1_has_the_papers_rows_and_figures(table1, tmp_path):
    rows = ["pvae", "vae-image", "pvae-b0", "jmvae", "vae-speech"]
    assert table1("--seeds", 3, "--rows", *rows) == 0
    content, cells = read(tmp_path)
    assert [*cells.items()] == [
        (("model", "latent"), ["speech", "image"]),
        (("VAE-sp", "z"), ["94.00 ± 4.00 (45.73)", "–"]),
        (("VAE-im", "z"), ["–", "47.00 ± 2.00 (76.38)"]),
        (("JMVAE-kl", "z"), ["94.00 ± 4.00 (45.48)", "47.00 ± 2.00 (98.16)"]),
        (("PVAE (no contrastive)", "z_sem"), ["94.00 ± 4.00 (65.69)", "47.00 ± 2.00 (97.95)"]),
        (("PVAE", "z_sem"), ["94.00 ± 4.00 (99.77)", "47.00 ± 2.00 (99.10)"]),
        (("PVAE (no contrastive)", "z_style"), ["94.00 ± 4.00 (30.88)", "47.00 ± 2.00 (21.73)"]),
        (("PVAE", "z_style"), ["94.00 ± 4.00 (24.79)", "47.00 ± 2.00 (20.63)"]),
    ]
    runs = [run for run in content["runs"] if run["row"] == "pvae"]
    assert [run["seed"] for run in runs] == [0, 1, 2]
    assert runs[0]["active_units"]["z_sem"]["speech"] == 8


CHANCE = {latent: {"speech": 0.195, "image": 0.116} for latent in ("z_sem", "z_style")}
UNUSED = {latent: {"speech": 3, "image": 0} for latent in ("z_sem", "z_style")}


@pytest.mark.parametrize(
    ("options", "results", "told"),
    [
        (["--dataset=fsdd"], {}, "another corpus"),
        (["--hold-out=0.15"], {}, "held-out 15 %"),
        (["--num-clusters=20"], {}, "clusters, 20,"),
        ([], {"stand_in": True}, "STAND-IN: a corpus"),
        ([], {"corpus": "<b>"}, r"\<b\>"),
        (
            [],
            {"purity_chance": CHANCE},
            "| 90.00, chance 19.5 (99.77) | 45.00, chance 11.6 (99.10) |",
        ),
        ([], {"active_units": UNUSED}, "| 90.00 (99.77) | 45.00* (99.10) |"),
    ],
)
def test_table1_names_its_data_and_what_to_doubt(table1, trainer, tmp_path, options, results, told):
    trainer.results = results
    assert table1("--rows", "pvae", *options) == 0
    assert told in (tmp_path / "table1.md").read_text()


def test_every_run_has_the_options_of_its_row(table1, trainer):
    assert table1("--seeds", 2, "--batch-size", 16) == 0
    called = [parsed(words) for words in trainer.calls]
    assert [options.seed for options, _ in called] == [0] * 6 + [1] * 6
    for options, place in called:
        row = place["out"].name.removesuffix(f"-seed{options.seed}")
        assert row_of(options.resolved("cpu")) == row.removesuffix("-ours")
        assert (options.objective == "ours") == row.endswith("-ours")
        assert (options.batch_size, place["report"]) == (16, False)


def test_finished_runs_are_not_trained_again(table1, trainer, tmp_path):
    assert table1("--rows", "pvae", "jmvae") == 0
    assert table1("--rows", "pvae", "--preset", read(tmp_path)[0]["runs"][0]["preset"]) == 0
    assert len(trainer.calls) == 2
    assert {run["row"] for run in read(tmp_path)[0]["runs"]} == {"pvae", "jmvae"}
    assert table1("--rows", "pvae", "--seeds", 2) == 0
    assert len(trainer.calls) == 3


def test_interrupted_runs_are_resumed_where_their_data_are(table1, trainer, tmp_path):
    trainer.stops = {"pvae": INTERRUPTED}
    options = ("--rows", "vae-speech", "pvae", "pvae-ours", "--data", tmp_path, "--device", "cpu")
    assert table1(*options) == INTERRUPTED
    assert [run["row"] for run in read(tmp_path)[0]["runs"]] == ["vae-speech"]
    trainer.stops = {}
    assert table1(*options) == 0
    run, place = parsed(trainer.calls[2])
    assert (place["resume"], place["data"]) == (tmp_path / "pvae-seed0", tmp_path)
    assert run.model_fields_set == {"device"}
    assert len(trainer.calls) == 4


def test_a_study_that_cannot_begin_leaves_no_folder(tmp_path, capsys):
    assert study.main(["table1", "--dataset", "nosuch", "--out", str(tmp_path / "table")]) == 1
    assert "nosuch" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("then", "named"),
    [
        (["--batch-size", 32], "--batch-size 32 (the run: 16)"),
        ([], "--batch-size 64 (the run: 16)"),
        (["--batch-size", 16, "--epochs", 9], "--epochs 9 (the run: 7)"),
    ],
)
def test_runs_with_other_options_are_refused(table1, trainer, capsys, then, named):
    assert table1("--rows", "pvae", "--batch-size", 16) == 0
    assert table1("--rows", "pvae", *then) == 1
    assert named in capsys.readouterr().err.split("pvae-seed0")[-1]
    assert len(trainer.calls) == 1


def test_runs_of_an_earlier_objective_are_refused(table1, trainer, tmp_path, capsys):
    assert table1("--rows", "pvae", "pvae-ours") == 0
    for row in ("pvae", "pvae-ours"):
        path = tmp_path / f"{row}-seed0" / CONFIG
        content = json.loads(path.read_text())
        assert content.pop("objective_version") == 3
        path.write_text(json.dumps(content))
    assert table1("--rows", "pvae") == 0  # the paper's has not changed
    assert table1("--rows", "pvae-ours") == 1
    assert "--objective-version 3 (the run: 1)" in capsys.readouterr().err
    assert len(trainer.calls) == 2


def test_runs_on_different_data_make_no_table(table1, tmp_path, capsys):
    assert table1("--rows", "pvae") == 0
    path = tmp_path / "pvae-seed0" / RESULTS
    path.write_text(path.read_text().replace('"data_digest": null', '"data_digest": "other"'))
    assert table1("--rows", "jmvae") == 1
    assert "data_digest" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        *("table1 --seed=1", "table1 --beta=0", "table1 --rows vae-spanish", "table1 --seeds=0"),
        *("missing --paired=0.5", "missing --rows 0.1", "priors --prior=flow", "priors --sice=3"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_trained(trainer, capsys, words):
    with pytest.raises(SystemExit) as stopped:
        study.main(words.split())
    assert stopped.value.code == 2
    assert words.split()[1].split("=")[0] in capsys.readouterr().err
    assert not trainer.calls


def test_options_are_passed_on_as_command_line_words():
    rows = [row for name in study.STUDIES for row in study.rows_of(name, ("speech",)).values()]
    others = {"trim": False, "strict": True, "learning_rate": 1e-5, "pattern": "-{digit}"}
    for fields in (*rows, others):
        assert asked(*words_of(Options(**fields), fields, None)) == Options(**fields)


def test_rows_side_by_side():
    config = {"preset": "quick", "batch_size": 64, "objective": "ours"}
    of_all = {"stand_in": False, "corpus": "some corpus", "steps": 10, "config": config}
    figures = [{"purity z_sem a": 0.9, "elbo": -10.0}, {"purity z_sem a": 0.8, "elbo": -12.0}]
    runs = [{**of_all, "row": "0", "seed": n, "figures": of} for n, of in enumerate(figures)]
    runs[1]["chances"] = {"purity z_sem a": 0.1912}
    other = {"row": "0.5", "seed": 0, "steps": 12, "figures": {"seconds a step": 0.12345}}
    runs.append({**of_all, **other, "stand_in": True, "corpus": "another"})
    text = side_by_side("missing", runs)
    assert "| 0 | 0.5 |" in text
    assert "| purity z_sem a | 85.0 ± 7.1 (chance 19.1) | – |" in text
    assert "| elbo | -11.0 ± 1.4 | – |" in text
    assert "| seconds a step | – | 0.123 |" in text
    assert "10, 12 steps of 64" in text
    assert "* 0: some corpus\n* 0.5: STAND-IN: another" in text
    assert "| elbo" not in side_by_side("modalities", runs)
    runs[1]["left_out"] = {"some figure": "The reason"}
    assert "0, seed 1: no some figure. The reason." in side_by_side("missing", runs)
    assert "The reason" not in side_by_side("modalities", runs)


def test_a_likelihood_that_is_not_reliable_is_no_figure_of_a_table(trainer, table1, tmp_path):
    assert table1("--rows", "pvae") == 0
    (path,) = tmp_path.glob("*/results.json")
    for joint, figure, left_out in (
        ({"reliable": True, "mean": -8.0}, -8.0, {}),
        ({"reliable": False, "reason": "why", "bound": -9.0}, None, {LIKELIHOOD: "why"}),
    ):
        evaluation = Evaluation(log_likelihood={"joint": joint})
        found = collect("pvae", read_results(path), evaluation)
        assert found["figures"].get(LIKELIHOOD) == figure
        assert found["left_out"] == left_out


@pytest.mark.usefixtures("environment")
def test_a_study_trains_evaluates_and_compares(small, tmp_path, capsys, monkeypatch):
    quickly = ["--judge-steps", "5", "--num-samples", "2", "--likelihood-examples", "4"]
    of_one = evaluate.main
    monkeypatch.setattr(evaluate, "main", lambda words: of_one([*words, *quickly]))
    options = [*small, "--epochs", "1", "--evaluate-limit", "6", "--out", str(tmp_path)]
    options.remove("--no-report")
    assert study.main(["paired", *options, "--rows", "1", "0.25"]) == 0
    assert "| purity z_sem speech |" in capsys.readouterr().out
    first, second = json.loads((tmp_path / "paired.json").read_text())["runs"]
    assert (first["row"], second["row"]) == ("1", "0.25")
    assert second["num_examples"] == {"train": 36, "complete": 3, "test": 12}
    assert "product" in second["subsets"]["speech"]
    before = (tmp_path / "paired.md").read_text()
    weights = (tmp_path / "0.25-seed0" / "checkpoint.safetensors").stat
    then = weights().st_mtime_ns
    assert study.main(["paired", *options, "--rows", "0.25"]) == 0  # tells of both again
    assert (tmp_path / "paired.md").read_text() == before
    assert weights().st_mtime_ns == then
