"""evaluate.py on tiny runs: what it measures, what it keeps, what it refuses."""

import json
import shutil
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest

from pvae_pyro.evaluate import num_classes, unseen_classes
from pvae_pyro.evaluate.measures import CHANCES, MEASURES, SCORES
from pvae_pyro.evaluate.run import MeasureSettings
from pvae_pyro.experiments import evaluate, run_svi
from pvae_pyro.experiments.support.measured_figures import figures_of
from pvae_pyro.experiments.support.saved_run import open_run
from tests.support.tiny_run import small_corpus

SETTINGS = {
    "limit": 8,
    "judge_steps": 2,
    "num_samples": 2,
    "likelihood_examples": 8,
    "most_classes": 9,
}
QUICK = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
BOTH = {"speech", "image"}


@pytest.fixture(scope="module")
def measured(small_runs, environment, tmp_path_factory):
    """A copy of the PVAE's run on the small corpus, with all of its measures."""
    folder = shutil.copytree(small_runs["pvae"], tmp_path_factory.mktemp("evaluated") / "run")
    assert evaluate.main([str(folder), *QUICK]) == 0
    return folder


@pytest.fixture
def run(small_runs, environment, tmp_path):
    """A copy of a JMVAE's run on the small corpus."""
    return shutil.copytree(small_runs["jmvae"], tmp_path / "run")


@pytest.fixture
def counted(monkeypatch):
    """Measures that find nothing: the names of those that were called, in order."""
    called = []

    def measure(name, run, settings):
        called.append(name)
        return {key: {} for key in evaluate.keys_of(name)}

    monkeypatch.setattr(evaluate, "measure", measure)
    return called


def read(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_everything_is_measured(measured):
    content = read(measured)
    assert content.keys() >= {*evaluate.KEYS}
    results = json.loads((measured / "results.json").read_text())
    for score in (*SCORES, *CHANCES, "active_units"):
        assert content[score].keys() == {"z_sem", "z_style"}
        assert content[score] == results[score]
    assert content["prior_clusters"].keys() == {"z_sem"}  # of the fitted prior
    assert "reason" in content["unseen"]
    assert content["num_classes"].keys() == content["retrieval"].keys() == {"z_sem"}
    pairs = {"speech->image", "image->speech"}
    assert content["retrieval"]["z_sem"].keys() == pairs
    assert content["coherence"].keys() >= pairs
    assert content["coherence"]["num_examples"] == {"speech": 8, "image": 8, "prior": 8}
    assert content["style_swap"].keys() == content["dependence"].keys() == BOTH
    assert content["dependence"]["speech"]["means"]["num_examples"] == 12
    assert content["styles"]["diversity"].keys() == pairs
    assert content["fidelity"].keys() == BOTH
    assert content["fidelity"]["image"].keys() >= {
        "real",
        "reconstruction",
        "speech->image",
        "prior",
    }
    assert content["subsets"].keys() == {"speech", "image", "speech+image"}
    for latent in ("z_sem", "z_style"):
        assert content["probes"][latent].keys() == BOTH
        for name, probe in content["probes"][latent].items():
            of_samples = {"class_of_samples", "class_nonlinear_of_samples", "speaker_of_samples"}
            of_active = {"class_of_active", "class_nonlinear_of_active"}
            assert probe.keys() == {"class", "speaker", "class_nonlinear"} | of_samples | of_active
            assert probe["class_of_active"]["num_dims"] == content["kl"][latent][name]["active"]
        assert content["probes"][latent]["image"]["speaker"]["accuracy"] is None
    assert content["log_likelihood"]["num_examples"] == 12  # a batch is complete
    assert content["log_likelihood"]["marginal"].keys() == BOTH
    assert not content["log_likelihood"]["joint"]["reliable"]  # of --num-samples 3
    assert content["stand_in"] is False
    assert (content["model"], content["seed"]) == ("pvae", 0)
    assert content["config"] == json.loads((measured / "config.json").read_text())
    assert content["options"] == SETTINGS
    assert content["versions"]["torch"]


def test_a_study_finds_its_figures_in_the_file(measured):
    content = read(measured)
    figures = {name: (value, chance) for name, value, chance in figures_of(content)}
    probe = content["probes"]["z_style"]["image"]["class_of_samples"]
    expected = {
        "pairs from the prior before the fit agree speech,image": (
            content["coherence"]["before_fit"]["prior"]["speech,image"],
            content["coherence"]["chance"]["before_fit"]["prior"]["speech,image"],
        ),
        "probe: class off z_style image, samples": (probe["accuracy"], probe["chance"]),
        "error of reconstruction speech": (
            content["fidelity"]["speech"]["reconstruction"]["error"],
            None,
        ),
        "KL z_style image, nats": (content["kl"]["z_style"]["image"]["nats"], None),
        "classes counted z_sem image": (content["num_classes"]["z_sem"]["image"]["number"], None),
    }
    assert expected.items() <= figures.items()
    starts = {name.partition(" ")[0] for name in figures}
    assert starts >= {"swap", "probe:", "distance"}
    assert not list(figures_of({}))


def test_the_summary_has_the_figures_of_the_file(measured, capsys, monkeypatch):
    before = (measured / "evaluation.json").read_bytes()
    monkeypatch.setattr(evaluate, "measure", None)  # nothing is measured a second time
    assert evaluate.main([str(measured), *QUICK]) == 0
    assert (measured / "evaluation.json").read_bytes() == before
    text, content = capsys.readouterr().out, read(measured)
    for latent in ("z_sem", "z_style"):
        for name in BOTH:
            by_chance = content["purity_chance"][latent][name]
            score = f"purity {content['purity'][latent][name]:.3f} (chance {by_chance:.3f})"
            assert f"{latent}, {name}: {score} nmi" in text
    found, by_chance = content["coherence"], content["coherence"]["chance"]
    for what in ("speech->image", "largest_class, image"):
        *path, last = what.split(", ")
        score, level = (of[path[0]][last] if path else of[last] for of in (found, by_chance))
        assert f"coherence, {what}: {score:.3f} (chance {level:.3f})\n" in text
    assert "coherence, chance" not in text
    number = content["num_classes"]["z_sem"]["image"]["number"]
    assert f"num_classes, z_sem, image: number {number}" in text
    joint = content["log_likelihood"]["joint"]
    expected = f"log_likelihood, joint: elbo {joint['elbo']:.3f} reason {joint['reason']}"
    assert expected in text.splitlines()
    assert f"{joint['bound']:.3f}" not in text
    for name in ("probes", "dependence", "retrieval", "style_swap", "subsets", "kl"):
        assert f"\n{name}, " in text
    of_prior = content["fidelity"]["image"]["prior"]["frechet"]
    assert f"fidelity, image, prior: frechet {of_prior:.3f}\n" in text


def test_a_vae_has_one_modality_and_no_style(small_runs, environment, tmp_path):
    single = shutil.copytree(small_runs["vae-image"], tmp_path / "vae")
    assert evaluate.main([str(single), *QUICK]) == 0
    content = read(single)
    assert content.keys() >= {*evaluate.KEYS}
    for score in ("purity", "num_classes", "probes"):
        assert content[score].keys() == {"z"}
        assert content[score]["z"].keys() == {"image"}
    assert content["style_swap"] == {}
    assert not any("->" in key for key in content["coherence"])
    assert content["log_likelihood"]["conditional"] == {}
    assert content["log_likelihood"]["marginal"].keys() == {"image"}


def test_a_latent_that_is_a_single_point_has_no_number_of_classes():
    rng = np.random.default_rng(0)
    apart = np.repeat(10 * np.eye(3), 40, 0) + 0.1 * rng.normal(size=(120, 3))
    latents = {"z_sem": {"a": apart, "b": np.ones((120, 3))}, "z_style": {"a": apart}}
    asked = []

    def latents_of(partition, sampled=False):
        asked.append((partition, sampled))
        return latents

    run = SimpleNamespace(latents=latents_of)
    found = num_classes.measure(run, MeasureSettings(most_classes=2))
    assert found["z_sem"]["a"]["capped"]
    found = num_classes.measure(run, MeasureSettings())
    # The inertia is of the means, the number of classes is of draws.
    assert {*asked} == {("train", False), ("train", True)}
    assert found.keys() == {"z_sem"}
    assert found["z_sem"]["a"]["number"] == 3
    assert found["z_sem"]["b"]["number"] is None
    assert "distinct points" in found["z_sem"]["b"]["reason"]


def test_components_of_a_mixture_prior_are_clusters(small, environment, tmp_path, capsys):
    run = tmp_path / "run"
    options = ["--epochs", "1", "--prior", "mixture", "--num-components", "5", "--out", str(run)]
    assert run_svi.main([*small, *options]) == 0
    assert evaluate.main([str(run), *QUICK, "--only", "prior_clusters"]) == 0
    found = read(run)["prior_clusters"]
    assert found.keys() == {"z_sem"}
    assert found["z_sem"].keys() == BOTH
    one = found["z_sem"]["image"]
    assert f"prior_clusters, z_sem, image: purity {one['purity']:.3f}" in capsys.readouterr().out


@pytest.mark.parametrize(("labels", "kind"), [([0, 1, 1], "unseen"), ([2, 2], "seen")])
def test_unseen_classes_that_the_test_partition_lacks(labels, kind):
    run = SimpleNamespace(
        unseen_classes=("c",),
        data=SimpleNamespace(classes=("a", "b", "c")),
        test={
            "image": SimpleNamespace(labels=np.array([0, 1, 2])),
            "speech": SimpleNamespace(labels=np.array(labels)),
        },
    )
    found = unseen_classes.measure(run, None)
    assert found.keys() == {"reason"}
    assert "speech" in found["reason"]
    assert found["reason"].endswith(f"was {kind}")


def test_one_class_alone(tmp_path, environment):
    """Every measure is taken, or the file says why not."""
    folder = tmp_path / "run"
    options = [*small_corpus(tmp_path, "a", 2), "--epochs", "1", "--out", str(folder)]
    assert run_svi.main(options) == 0
    assert evaluate.main([str(folder), *QUICK]) == 0
    content = read(folder)
    assert content.keys() >= {*evaluate.KEYS}
    assert "one label" in content["probes"]["z_sem"]["speech"]["class"]["reason"]


def test_each_measure_is_taken_once(run, counted):
    assert evaluate.main([str(run), *QUICK, "--only", "style_swap", "nmi"]) == 0
    assert counted == ["clustering", "style_swap"]
    assert {"purity", "ari", "style_swap"} <= read(run).keys()
    assert evaluate.main([str(run), *QUICK]) == 0
    assert sorted(counted) == sorted(MEASURES)
    assert evaluate.main([str(run), *QUICK]) == 0
    assert len(counted) == len(MEASURES)
    assert evaluate.main([str(run), *QUICK, "--again", "--only", "probes"]) == 0
    assert counted[len(MEASURES) :] == ["probes"]


@pytest.mark.parametrize("option", SETTINGS)
def test_other_options_measure_again(run, counted, option):
    assert evaluate.main([str(run), *QUICK, "--only", "probes", "nmi"]) == 0
    other = [f"--{option.replace('_', '-')}", "5"]
    assert evaluate.main([str(run), *QUICK, *other, "--only", "probes"]) == 0
    assert counted == ["clustering", "probes", "probes"]
    assert read(run)["options"][option] == 5
    assert "nmi" not in read(run)  # of the other options


def test_other_weights_and_an_earlier_format_measure_again(run, counted):
    only = [*QUICK, "--only", "probes"]
    assert evaluate.main([str(run), *only]) == 0
    before = read(run)
    assert run_svi.main(["--resume", str(run), "--epochs", "3", "--no-report"]) == 0
    assert evaluate.main([str(run), *only]) == 0
    assert counted == ["probes", "probes"]
    assert read(run)["checkpoint"] != before["checkpoint"]
    (run / evaluate.EVALUATION).write_text(json.dumps(read(run) | {"format": 1}))
    assert evaluate.main([str(run), *only]) == 0
    assert len(counted) == 3


def test_a_run_of_an_earlier_objective_is_evaluated_and_not_resumed(
    small_runs, environment, counted, tmp_path, capsys
):
    run = shutil.copytree(small_runs["pvae"], tmp_path / "run")
    content = json.loads((run / "config.json").read_text())
    del content["objective_version"], content["epsilon"]
    (run / "config.json").write_text(json.dumps(content))
    resume = ["--resume", str(run), "--epochs", "3", "--no-report"]
    assert run_svi.main(resume) == 1
    error = capsys.readouterr().err
    assert "the objective has changed since this run was begun (version 1, now 3" in error
    assert "still be evaluated" in error
    assert evaluate.main([str(run), *QUICK, "--only", "probes"]) == 0
    assert counted == ["probes"]
    # Without the term that has changed, the objective is the same.
    (run / "config.json").write_text(json.dumps(content | {"gamma": 0.0}))
    (run / "checkpoint.safetensors").unlink()
    assert run_svi.main(resume) == 0


def test_a_damaged_file_is_an_error_until_again(run, counted, capsys):
    (run / evaluate.EVALUATION).write_text('{"nmi": ')
    assert evaluate.main([str(run), *QUICK, "--only", "nmi"]) == 1
    assert "evaluation.json is damaged" in capsys.readouterr().err
    assert evaluate.main([str(run), *QUICK, "--only", "nmi", "--again"]) == 0
    assert "nmi" in read(run)


def test_samples_of_two_partitions_share_no_noise(run, environment):
    trained = open_run(run, None, "cpu")
    noise = {
        (partition, name): trained.latents(partition, sampled=True)["z"][name] - mean
        for partition in ("train", "test")
        for name, mean in trained.latents(partition)["z"].items()
    }
    rows = min(map(len, noise.values()))
    assert rows >= 12  # of 96 numbers: 0.03 by chance
    for one, other in combinations(noise.values(), 2):
        assert abs(np.corrcoef(one[:rows].ravel(), other[:rows].ravel())[0, 1]) < 0.15


def test_ctrl_c_keeps_finished_measures(run, counted, monkeypatch, capsys):
    fake = evaluate.measure

    def stop(name, run, settings):
        if name == "probes":
            raise KeyboardInterrupt
        return fake(name, run, settings)

    monkeypatch.setattr(evaluate, "measure", stop)
    assert evaluate.main([str(run), *QUICK]) == 130
    assert "what was measured is in" in capsys.readouterr().err
    assert "purity" in read(run)
    assert "probes" not in read(run)


def test_a_folder_that_is_no_finished_run_is_an_error(run, counted, tmp_path, capsys):
    def refused(folder):
        capsys.readouterr()
        assert evaluate.main([str(folder), *QUICK]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1
        return error

    assert "nothing" in refused(tmp_path / "nothing")
    content = json.loads((run / "config.json").read_text())
    changed = shutil.copytree(run, tmp_path / "changed")
    (changed / "config.json").write_text(json.dumps(content | {"data_digest": "0"}))
    assert "data_digest 0" in refused(changed)
    (run / "checkpoint.safetensors").write_bytes(b"half")
    assert "checkpoint" in refused(run)
    (run / "results.json").unlink()
    assert f"python experiments/run_svi.py --resume {run}" in refused(run)
    assert not counted
