"""The table of every model and seed; but for one test, nothing is trained."""

import json
import statistics
from pathlib import Path

import pytest

from pvae_pyro.experiments import run_svi, table1
from pvae_pyro.experiments.support.options import make_parser, resolve
from pvae_pyro.experiments.support.paper_table import row_of
from pvae_pyro.experiments.support.saved_run import read_config
from pvae_pyro.experiments.support.table_rows import aggregate, markdown

LATENTS = {"pvae": ("z_sem", "z_style")}
MODALITIES = {"vae-speech": ("speech",), "vae-image": ("image",)}
BY_SEED = (0.9, 0.94, 0.98)  # mean 0.94; standard deviation √((0.04² + 0.04²) / 2) = 0.04


class Trainer:
    """In run_svi.main's place: it writes what a run leaves, and nothing else.

    calls: what it was called with. stops: row -> exit code of runs that come to no end.
    """

    def __init__(self):
        self.calls = []
        self.stops = {}
        self.results = {}

    def __call__(self, argv):
        self.calls.append(argv)
        arguments = make_parser(None).parse_args(argv)
        if arguments.resume:
            folder = Path(arguments.resume)
            config = read_config(folder)
        else:
            folder = arguments.out
            folder.mkdir(parents=True)
            config = resolve(arguments)
            config.epochs = config.epochs or 7
            (folder / "config.json").write_text(json.dumps(config))
        row = folder.name.split("-seed")[0]
        if row in self.stops:
            return self.stops[row]
        (folder / "results.json").write_text(json.dumps(self.result(config) | self.results))
        return 0

    def result(self, config):
        latents = LATENTS.get(config.model, ("z",))
        modalities = MODALITIES.get(config.model, ("speech", "image"))

        def scores(of):
            return {
                latent: {m: of - (m == "image") * of / 2 for m in modalities} for latent in latents
            }

        return {
            "purity": scores(BY_SEED[config.seed]),
            "active_units": scores(8),
            "corpus": "a corpus",
            "stand_in": False,
            "dataset": config.dataset,
            "preset": config.preset,
            "seed": config.seed,
            "steps": 40,
            "config": config,
            "git_commit": "c0ffee",
        }


@pytest.fixture
def trainer(monkeypatch):
    trainer = Trainer()
    monkeypatch.setattr(run_svi, "main", trainer)
    return trainer


@pytest.fixture
def out(tmp_path):
    return tmp_path / "table"


def make(out, *arguments):
    return table1.main([*map(str, arguments), "--out", str(out)])


def read(out):
    return json.loads((out / "table1.json").read_text()), (out / "table1.md").read_text()


def cells(text):
    """(model, latent) -> its cells."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {(row[0], row[1]): row[2:] for row in rows}


def test_rows_are_in_the_papers_order(trainer, out):
    rows = ["pvae", "vae-image", "pvae-b0", "jmvae", "vae-speech"]
    assert make(out, "--dataset", "tidigit", "--seeds", 1, "--rows", *rows) == 0
    table, text = read(out)
    expected = [
        ("vae-speech", "z"),
        ("vae-image", "z"),
        ("jmvae", "z"),
        ("pvae-b0", "z_sem"),
        ("pvae", "z_sem"),
        ("pvae-b0", "z_style"),
        ("pvae", "z_style"),
    ]
    assert [(row["model"], row["latent"]) for row in table["rows"]] == expected
    assert [row[0] for row in cells(text)][1:] == [
        *("VAE-sp", "VAE-im", "JMVAE-kl", "PVAE (no contrastive)", "PVAE"),
        *("PVAE (no contrastive)", "PVAE"),
    ]


def test_means_and_standard_deviations_by_hand(trainer, out):
    assert make(out, "--dataset", "fsdd", "--rows", "pvae", "vae-speech") == 0
    table, text = read(out)
    assert table["seeds"] == [0, 1, 2]
    vae, sem, style = table["rows"]
    assert vae.keys() == {"model", "latent", "num_runs", "speech"}
    for row in (sem, style):
        assert row["num_runs"] == 3
        assert row["speech"]["mean"] == pytest.approx(0.94)
        assert row["speech"]["sd"] == pytest.approx(0.04)
        assert row["image"]["mean"] == pytest.approx(0.47)
        assert row["image"]["sd"] == pytest.approx(0.02)
    # Beside the paper's of TIDIGITS, for there are none of this corpus.
    assert cells(text)["PVAE", "z_sem"] == ["94.00 ± 4.00", "47.00 ± 2.00", "99.77", "99.10"]
    assert cells(text)["VAE-sp", "z"] == ["94.00 ± 4.00", "–", "45.73", "–"]
    assert "speech, paper (TIDIGIT)" in text
    assert "The paper's figures are of another corpus." in text
    assert "40 steps of 64; preset quick; seeds 0, 1, 2." in text
    assert table["rows"][1]["speech"]["sd"] == pytest.approx(statistics.stdev(BY_SEED))


def test_what_programs_read(trainer, out):
    """The keys that issue 4 names, and what tells one table from another."""
    assert make(out, "--dataset", "fsdd", "--preset", "paper", "--seeds", 2) == 0
    table, _ = read(out)
    assert table["corpus"] == "a corpus"
    assert table["stand_in"] is False
    assert (table["preset"], table["seeds"], table["batch_size"]) == ("paper", [0, 1], [256])
    assert table["commits"] == ["c0ffee"]
    assert table["versions"]["pyro-ppl"]
    for row in table["rows"]:
        modalities = MODALITIES.get(row["model"], ("speech", "image"))
        assert row.keys() == {"model", "latent", "num_runs", *modalities}
        for modality in modalities:
            assert row[modality].keys() == {"mean", "sd", "active_units"}
            assert 0 <= row[modality]["mean"] <= 1


def test_one_seed_has_no_spread(trainer, out):
    assert make(out, "--dataset", "tidigit", "--seeds", 1, "--rows", "pvae") == 0
    table, text = read(out)
    assert [row["speech"]["sd"] for row in table["rows"]] == [None, None]
    assert cells(text)["PVAE", "z_sem"] == ["90.00", "45.00", "99.77", "99.10"]
    assert cells(text)["PVAE", "z_style"] == ["90.00", "45.00", "24.79", "20.63"]


def test_every_run_is_asked_for_as_its_row(trainer, out):
    assert make(out, "--dataset", "fsdd", "--seeds", 2, "--batch-size", 16) == 0
    called = [make_parser(None).parse_args(argv) for argv in trainer.calls]
    assert [a.seed for a in called] == [0] * 6 + [1] * 6  # a seed of every row, then the next
    for arguments in called:
        config = resolve(arguments)
        row = arguments.out.name.removesuffix(f"-seed{arguments.seed}")
        assert row_of(config) == row.removesuffix("-ours")
        assert (config.objective == "ours") == row.endswith("-ours")
        assert (config.dataset, config.batch_size) == ("fsdd", 16)
        assert arguments.out.parent == out
    assert len({a.out for a in called}) == 12


def test_finished_runs_are_taken_as_they_are(trainer, out):
    arguments = ("--dataset", "fsdd", "--rows", "pvae", "jmvae")
    assert make(out, *arguments, "--seeds", 1) == 0
    assert len(trainer.calls) == 2
    before, _ = read(out)
    assert make(out, *arguments, "--seeds", 1) == 0
    assert len(trainer.calls) == 2
    assert read(out)[0]["rows"] == before["rows"]
    assert make(out, *arguments, "--seeds", 2) == 0  # one more seed: the first is there
    assert [make_parser(None).parse_args(argv).seed for argv in trainer.calls[2:]] == [1, 1]


def test_what_auto_is_does_not_make_the_options_others(trainer, out):
    """The preset of a run is never auto: the second call must know what it stood for."""
    assert make(out, "--dataset", "fsdd", "--seeds", 1, "--rows", "pvae") == 0
    assert make(out, "--dataset", "fsdd", "--seeds", 1, "--rows", "pvae") == 0
    resolved = read(out)[0]["preset"]
    assert resolved in ("quick", "paper")
    assert make(out, "--dataset", "fsdd", "--seeds", 1, "--rows", "pvae", "--preset", resolved) == 0
    assert len(trainer.calls) == 1


def test_interrupted_runs_are_gone_on_with(trainer, out, tmp_path, capsys):
    arguments = ("--dataset", "fsdd", "--seeds", 1, "--rows", "jmvae", "pvae", "vae-image")
    place = ["--data", str(tmp_path), "--device", "cpu"]
    arguments += tuple(place)
    trainer.stops = {"pvae": run_svi.INTERRUPTED}
    assert make(out, *arguments) == run_svi.INTERRUPTED
    assert "pvae-seed0 is not finished; the same command goes on" in capsys.readouterr().err
    assert len(trainer.calls) == 2  # nothing is trained after it
    assert [row["model"] for row in read(out)[0]["rows"]] == ["jmvae"]  # what there is so far
    trainer.stops = {}
    assert make(out, *arguments) == 0
    resumed, fresh = trainer.calls[2:]
    # In its own configuration, but for where that is.
    assert resumed == ["--resume", str(out / "pvae-seed0"), *place]
    assert "--resume" not in fresh
    assert {row["model"] for row in read(out)[0]["rows"]} == {"jmvae", "pvae", "vae-image"}


def test_a_run_that_fails_stops_with_its_code(trainer, out):
    trainer.stops = {"jmvae": 1}
    assert make(out, "--dataset", "fsdd", "--seeds", 1, "--rows", "jmvae", "pvae") == 1
    assert len(trainer.calls) == 1
    assert not (out / "table1.json").exists()


def test_what_cannot_be_begun_leaves_nothing(tmp_path, capsys):
    assert table1.main(["--dataset", "nosuch", "--out", str(tmp_path / "table")]) == 1
    assert "unknown dataset 'nosuch'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (["--batch-size", "32"], "--batch-size 32 (the run: 64)"),
        (["--preset", "paper"], "--preset paper (the run: quick)"),
        (["--alpha", "2"], "--alpha 2.0 (the run: 1.0)"),
        (["--epochs", "9"], "--epochs 9 (the run: 7)"),
    ],
)
@pytest.mark.parametrize("is_finished", [True, False])
def test_runs_of_other_options_are_refused(trainer, out, capsys, other, told, is_finished):
    arguments = ("--dataset", "fsdd", "--seeds", 1, "--rows", "pvae")
    trainer.stops = {} if is_finished else {"pvae": 130}
    make(out, *arguments, "--preset", "quick")
    capsys.readouterr()
    assert (
        make(out, *arguments, *(other if "--preset" in other else ["--preset", "quick", *other]))
        == 1
    )
    error = capsys.readouterr().err
    assert "pvae-seed0 is of other options" in error
    assert told in error
    assert "the same command goes on" not in error
    assert len(trainer.calls) == 1


@pytest.mark.parametrize(
    "option",
    [
        ["--seed", "1"],
        ["--seed=1"],
        ["--model", "pvae"],
        ["--beta", "0"],
        ["--objective=paper"],
        ["--resume", "x"],
        ["--resume"],
    ],
)
def test_what_rows_and_seeds_differ_in_is_refused(trainer, out, capsys, option):
    with pytest.raises(SystemExit) as stopped:
        make(out, "--dataset", "fsdd", *option)
    assert stopped.value.code == 2
    assert "is what the rows and seeds differ in" in capsys.readouterr().err
    assert not trainer.calls


@pytest.mark.parametrize(
    "option",
    [["--seeds", "0"], ["--rows", "cvae"], ["--batch-sice", "3"], ["--preset", "slow"]],
)
def test_wrong_usage_is_refused_before_anything_is_trained(trainer, out, option):
    with pytest.raises(SystemExit) as stopped:
        make(out, "--dataset", "fsdd", *option)
    assert stopped.value.code == 2
    assert not trainer.calls
    assert not out.exists()


def test_a_device_that_is_not_there_is_told_in_a_line(trainer, out, capsys):
    assert make(out, "--dataset", "fsdd", "--device", "nonsense") == 1
    assert "error: cannot use --device nonsense" in capsys.readouterr().err
    assert not trainer.calls


def test_folders_that_are_no_runs_are_told_in_a_line(trainer, out, capsys):
    folder = out / "pvae-seed0"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{")
    assert make(out, "--dataset", "fsdd", "--rows", "pvae") == 1
    assert "pvae-seed0 is no run that can be read" in capsys.readouterr().err


def test_stand_ins_are_marked(trainer, out):
    trainer.results = {"stand_in": True}
    assert make(out, "--seeds", 1, "--rows", "pvae") == 0
    table, text = read(out)
    assert table["stand_in"] is True
    assert text.startswith("# Table 1 on STAND-IN: a corpus\n")
    assert "not comparable with the paper's" in text
    trainer.results = {}
    other = out.with_name("other")
    assert make(other, "--seeds", 1, "--rows", "pvae") == 0
    assert "STAND-IN" not in read(other)[1]
    assert "not comparable" not in read(other)[1]


def test_runs_on_different_corpora_make_no_table(trainer, out, capsys):
    """The corpus came, or went, between two runs."""
    assert make(out, "--seeds", 1, "--rows", "pvae") == 0
    trainer.results = {"corpus": "another", "stand_in": True}
    assert make(out, "--seeds", 1, "--rows", "pvae", "jmvae") == 1
    assert "different corpus: ['a corpus', 'another']" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (["--hold-out", "0.15"], "on the held-out 15 % of the training partition;"),
        (["--num-clusters", "20"], "of k-means clusters, 20, of"),
        ([], "of k-means clusters, as many as classes, of the unimodal"),
        ([], "on the test partition;"),
    ],
)
def test_what_was_scored_is_told(trainer, out, option, told):
    assert make(out, "--seeds", 1, "--rows", "pvae", *option) == 0
    table, text = read(out)
    assert told in text
    for name, value in zip(option[::2], option[1::2], strict=True):
        assert table["config"][name[2:].replace("-", "_")] == float(value)


@pytest.mark.parametrize(
    ("row", "changed"),
    [("pvae", {"epochs": 9}), ("pvae", {"data_digest": "x"}), ("jmvae", {"alpha": 7.0})],
)
def test_runs_that_do_not_belong_together_make_no_table(row, changed):
    runs = []
    for seed, change in enumerate(({}, changed)):
        options = ["--seed", str(seed), "--model", row, "--epochs", "7"]
        config = resolve(make_parser(None).parse_args(options)) | {"data_digest": "y"} | change
        runs.append((row, Trainer().result(config)))
    with pytest.raises(ValueError, match=f"runs of different {next(iter(changed))} in one table"):
        aggregate(runs)


def test_modalities_come_in_one_order_whatever_the_rows(trainer, out):
    assert make(out, "--seeds", 1, "--rows", "vae-image", "pvae") == 0
    (head,) = (line for line in read(out)[1].splitlines() if line.startswith("| model"))
    assert head.index("speech, ours") < head.index("image, ours")


def test_a_latent_that_is_not_in_use_in_some_run_is_marked():
    runs = []
    for seed, units in enumerate((5, 0)):
        result = Trainer().result(
            resolve(make_parser(None).parse_args(["--seed", str(seed), "--model", "vae-image"]))
        )
        result["active_units"]["z"]["image"] = units
        runs.append(("vae-image", result))
    table = aggregate(runs)
    assert table["rows"][0]["image"]["active_units"] == [5, 0]
    text = markdown(table)
    assert cells(text)["VAE-im", "z"][0] == "46.00 ± 1.41*"
    assert "not in use" in text
    assert "*" not in markdown(aggregate(runs[:1])).replace("\\*", "")


def test_two_rows_that_are_really_trained(small, cache, tmp_path, monkeypatch, capsys):
    for name, value in cache.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "table"
    arguments = [*small, "--seeds", "1", "--epochs", "1", "--rows", "pvae-b0", "vae-image"]
    assert make(out, *arguments) == 0
    table, text = read(out)
    assert text in capsys.readouterr().out
    assert table["corpus"] == "manifest words.csv + manifest drawings.csv"
    found = {(row["model"], row["latent"]): row for row in table["rows"]}
    assert list(found) == [("vae-image", "z"), ("pvae-b0", "z_sem"), ("pvae-b0", "z_style")]
    for (model, latent), row in found.items():
        results = json.loads((out / f"{model}-seed0" / "results.json").read_text())
        for modality, purity in results["purity"][latent].items():
            assert row[modality]["mean"] == purity
    weights = out / "pvae-b0-seed0" / "checkpoint.safetensors"
    before = weights.stat().st_mtime_ns
    (out / "vae-image-seed0" / "results.json").unlink()
    assert make(out, *arguments) == 0
    assert weights.stat().st_mtime_ns == before
    assert read(out)[0]["rows"] == table["rows"]


def test_rows_are_of_the_modalities_there_are(monkeypatch, capsys):
    """The vae of each, and the rows that take all of them."""
    found = {}
    monkeypatch.setattr(
        table1, "train_all", lambda arguments, *_: found.update(rows=arguments.rows) or 0
    )
    assert table1.main(["--modalities", "speech,spanish", "--device", "cpu"]) == 0
    of_all = ["jmvae", "pvae-b0", "pvae", "pvae-ours"]
    assert found["rows"] == ["vae-speech", "vae-spanish", *of_all]
    with pytest.raises(SystemExit):
        table1.main(["--rows", "vae-spanish"])
    assert "--rows vae-spanish: choose from vae-speech, vae-image, jmvae" in capsys.readouterr().err
