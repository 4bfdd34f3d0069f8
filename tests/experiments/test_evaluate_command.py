"""evaluate.py on tiny runs: what it measures, what it keeps, what it refuses."""

import json
import shutil
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pvae_pyro.experiments import evaluate, run_svi
from pvae_pyro.experiments.support import measures
from pvae_pyro.experiments.support.saved_run import open_run
from pvae_pyro.models.priors import GaussianMixture
from tests.support.configs import config
from tests.support.tiny_run import small_corpus

# The keys that issue 4 names.
KEYS = {
    *(
        "purity",
        "nmi",
        "ari",
        "hungarian",
        "probes",
        "retrieval",
        "coherence",
        "style_swap",
        "styles",
        "recognised",
    ),
    *("num_classes", "active_units", "log_likelihood", "prior_clusters", "subsets", "unseen"),
}
QUICK = ["--limit", "8", "--judge-steps", "2", "--num-samples", "2", "--likelihood-examples", "8"]
BOTH = {"speech", "image"}


@pytest.fixture(scope="module")
def measured(finished, environment, tmp_path_factory):
    """A copy of the run on the stand-in, with all of its measures."""
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(finished[0], folder)
    assert evaluate.main([str(folder), *QUICK]) == 0
    return folder


@pytest.fixture
def run(small_runs, environment, tmp_path):
    """A copy of a JMVAE's run on the small corpus."""
    return shutil.copytree(small_runs["jmvae"], tmp_path / "run")


@pytest.fixture
def counted(monkeypatch):
    """Measures that only say that they were called: the names, in order."""
    called = []

    def pretend(name):
        def measure(run, options):
            called.append(name)
            keys = evaluate.KEYS[name]
            return {key: {} for key in keys} if len(keys) > 1 else {}

        return measure

    for name in evaluate.MEASURES:
        monkeypatch.setitem(evaluate.MEASURES, name, pretend(name))
    return called


def read(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_everything_is_measured(measured):
    content = read(measured)
    assert content.keys() >= KEYS
    results = json.loads((measured / "results.json").read_text())
    for score in ("purity", "nmi", "ari", "hungarian", "active_units"):
        assert content[score].keys() == {"z_sem", "z_style"}
        assert content[score] == results[score]
    assert content["prior_clusters"] == {"reason": "the prior is no mixture but a StandardNormal"}
    assert content["num_classes"].keys() == content["retrieval"].keys() == {"z_sem"}
    assert content["num_classes"]["z_sem"].keys() == BOTH
    assert content["num_classes"]["z_sem"]["image"]["num_points"] == 2000  # of training
    pairs = {"speech->image", "image->speech"}
    assert content["retrieval"]["z_sem"].keys() == pairs
    assert content["coherence"].keys() >= pairs
    assert content["coherence"]["judge_accuracy"].keys() == BOTH
    assert content["coherence"]["num_examples"] == {"speech": 8, "image": 8, "prior": 8}
    assert content["style_swap"].keys() == BOTH
    assert content["style_swap"]["speech"]["num_examples"] == 8
    for latent in ("z_sem", "z_style"):
        assert content["probes"][latent].keys() == BOTH
        for probe in content["probes"][latent].values():
            of_means, of_samples = {"class", "speaker"}, {"class_of_samples", "speaker_of_samples"}
            assert probe.keys() == of_means | of_samples
            assert 0 <= probe["class"]["accuracy"] <= 1
            assert 0 <= probe["class_of_samples"]["accuracy"] <= 1
        assert content["probes"][latent]["image"]["speaker"]["accuracy"] is None
    likelihood = content["log_likelihood"]
    assert likelihood["num_examples"] == 20  # a batch is whole
    assert likelihood["num_samples"] == 2
    assert likelihood["marginal"].keys() == BOTH
    assert likelihood["conditional"].keys() == {"image|speech", "speech|image"}


def test_it_says_what_was_measured(measured):
    content = read(measured)
    assert content["stand_in"] is True
    assert "eSpeak" in content["corpus"]
    assert (content["model"], content["seed"]) == ("pvae", 0)
    assert content["config"] == json.loads((measured / "config.json").read_text())
    assert content["options"] == {
        "limit": 8,
        "judge_steps": 2,
        "num_samples": 2,
        "likelihood_examples": 8,
    }
    assert content["versions"]["torch"]


def test_the_summary_has_the_files_figures(measured, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "MEASURES", {})  # nothing is measured a second time
    before = (measured / "evaluation.json").read_bytes()
    assert evaluate.main([str(measured), *QUICK]) == 0
    assert (measured / "evaluation.json").read_bytes() == before
    text = capsys.readouterr().out
    assert text.startswith("STAND-IN: eSpeak")
    content = read(measured)
    for latent in ("z_sem", "z_style"):
        for modality in BOTH:
            (line,) = (
                line
                for line in text.splitlines()
                if line.split()[:3] == [latent, modality, "purity"]
            )
            for score in ("purity", "nmi", "ari", "hungarian"):
                assert f"{score} {content[score][latent][modality]:.3f}" in line
    found = content["coherence"]["speech->image"]
    assert f"coherence speech->image: {found:.3f}" in text
    assert "linear probe of class " in text
    assert "linear probe of class of samples " in text
    votes = content["num_classes"]["z_sem"]["image"]
    assert f"classes found {votes['agreed']} (by {votes['agreed_by']} of silhouette " in text
    assert "R@1" in text
    assert "style swap image:" in text
    assert "log-likelihood, conditional:" in text


def test_baselines_have_no_style_and_a_vae_has_one_modality(small_runs, environment, tmp_path):
    joint = shutil.copytree(small_runs["jmvae"], tmp_path / "jmvae")
    assert evaluate.main([str(joint), *QUICK]) == 0
    content = read(joint)
    assert content.keys() >= KEYS
    assert content["style_swap"] == {}
    assert content["retrieval"]["z"].keys() == {"speech->image", "image->speech"}
    assert content["coherence"]["real_style"] == {}
    # The speakers of the small corpus are in both of its partitions.
    assert content["probes"]["z"]["speech"]["speaker"]["fitted_to"] == "train"
    single = shutil.copytree(small_runs["vae-image"], tmp_path / "vae")
    assert evaluate.main([str(single), *QUICK]) == 0
    content = read(single)
    assert content.keys() >= KEYS
    for score in ("purity", "num_classes", "probes"):
        assert content[score].keys() == {"z"}
        assert content[score]["z"].keys() == {"image"}
    assert not any("->" in key for key in content["coherence"])
    assert content["log_likelihood"]["conditional"] == {}
    assert content["log_likelihood"]["marginal"].keys() == {"image"}


def test_a_latent_that_is_a_single_point_has_no_number_of_classes(run, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    apart = np.repeat(10 * np.eye(3), 40, 0) + 0.1 * rng.normal(size=(120, 3))
    latents = {"z_sem": {"a": apart, "b": np.ones((120, 3))}, "z_style": {"a": apart}}
    found = measures.num_classes(SimpleNamespace(latents=lambda partition: latents), None)
    assert found.keys() == {"z_sem"}
    assert found["z_sem"]["a"]["agreed"] == 3
    assert found["z_sem"]["b"]["agreed"] is None
    assert "distinct points" in found["z_sem"]["b"]["reason"]
    # And in the run: every image of one latent.
    everywhere = evaluate.SavedRun.latents

    def collapsed(self, partition="test"):
        of = everywhere(self, partition)
        of["z"]["image"] = np.zeros_like(of["z"]["image"])
        return of

    monkeypatch.setattr(evaluate.SavedRun, "latents", collapsed)
    assert evaluate.main([str(run), "--only", "num_classes", "purity"]) == 0
    of_run = read(run)["num_classes"]["z"]
    assert of_run["image"]["agreed"] is None
    assert of_run["speech"]["agreed"] >= 1
    assert "classes found none: fewer than 8 distinct points" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["mixture", "vamp"])
def test_components_of_a_mixture_prior_are_clusters(kind, small, environment, tmp_path, capsys):
    run = tmp_path / "run"
    options = ["--epochs", "2", "--prior", kind, "--num-components", "5", "--out", str(run)]
    assert run_svi.main([*small, *options]) == 0
    assert evaluate.main([str(run), *QUICK, "--only", "prior_clusters", "purity"]) == 0
    text = capsys.readouterr().out
    found = read(run)["prior_clusters"]
    assert found.keys() == {"z_sem"}
    assert found["z_sem"].keys() == BOTH
    trained = open_run(run, None, "cpu")
    for name, of in found["z_sem"].items():
        labels = trained.test[name].labels
        z = torch.as_tensor(trained.latents()["z_sem"][name])
        # The component with most of the density there.
        mixture = trained.model.prior()
        joint = mixture.component_distribution.log_prob(z[:, None])
        joint = joint + mixture.mixture_distribution.logits
        clusters = joint.argmax(1).numpy()
        right = sum(np.bincount(labels[clusters == k]).max() for k in set(clusters.tolist()))
        assert of["purity"] == pytest.approx(right / len(labels))
        assert of["components"] == 5
        assert of["in_use"] == len(set(clusters.tolist()))  # one of twelve is over 1 %
        assert 1 <= of["effective"] <= 5
        assert of["kmeans"].keys() == {"purity", "nmi", "ari", "hungarian"}
        assert (
            f"by the prior's {of['in_use']} components in use of 5: purity {of['purity']:.3f}"
            in text
        )


def test_k_means_beside_it_has_as_many_clusters_as_components_are_in_use():
    rng = np.random.default_rng(0)
    labels = np.arange(4).repeat(30)
    z = 6 * np.eye(4)[labels] + 0.1 * rng.normal(size=(120, 4))
    prior = GaussianMixture(4, 9)
    with torch.no_grad():
        prior.loc[:3] = 6 * torch.eye(4)[:3]
        prior.loc[3:] = -50.0
    made_up = SimpleNamespace(
        model=SimpleNamespace(prior=prior),
        latents=lambda: {"z_sem": {"a": z.astype(np.float32)}, "z_style": {"a": z}},
        test={"a": SimpleNamespace(labels=labels)},
        device="cpu",
    )
    with torch.no_grad():
        found = measures.prior_clusters(made_up, None)
    assert found.keys() == {"z_sem"}
    of = found["z_sem"]["a"]
    # The fourth class is nobody's own: one of the three has it too.
    assert (of["in_use"], of["components"], of["purity"]) == (3, 9, 0.75)
    assert of["kmeans"]["purity"] == 0.75
    made_up.model = SimpleNamespace(prior=lambda: None)
    assert measures.prior_clusters(made_up, None) == {
        "reason": "the prior is no mixture but a function"
    }


@pytest.mark.parametrize(("labels", "told"), [([0, 1, 1], "left out"), ([2, 2], "seen")])
def test_unseen_classes_that_the_test_partition_lacks(labels, told):
    run = SimpleNamespace(
        config=config("--unseen-classes", "c"),
        data=SimpleNamespace(classes=("a", "b", "c")),
        test={
            "image": SimpleNamespace(labels=np.array([0, 1, 2])),
            "speech": SimpleNamespace(labels=np.array(labels)),
        },
    )
    found = measures.unseen(run, None)
    assert found.keys() == {"reason"}
    assert "speech" in found["reason"]
    assert told in found["reason"]


def test_one_class_alone(tmp_path, environment, capsys):
    """Every measure is taken, or there is a reason why not."""
    folder = tmp_path / "run"
    options = [*small_corpus(tmp_path, "a", 2), "--epochs", "1", "--out", str(folder)]
    assert run_svi.main(options) == 0
    assert evaluate.main([str(folder), *QUICK]) == 0
    content = read(folder)
    assert content.keys() >= KEYS
    probe = content["probes"]["z_sem"]["speech"]["class"]
    assert (probe["accuracy"], probe["chance"]) == (None, None)
    assert "one label" in probe["reason"]
    remarks = json.loads((folder / "results.json").read_text())["remarks"]
    assert any("only one class" in remark for remark in remarks)
    assert "linear probe of class" not in capsys.readouterr().out


def test_what_was_measured_is_kept(run, counted):
    assert evaluate.main([str(run), *QUICK]) == 0
    assert counted == list(evaluate.KEYS)
    assert evaluate.main([str(run), *QUICK]) == 0
    assert len(counted) == len(evaluate.MEASURES)
    assert evaluate.main([str(run), *QUICK, "--again", "--only", "probes"]) == 0
    assert counted[len(evaluate.MEASURES) :] == ["probes"]


def test_only_some_keys(run, counted):
    assert evaluate.main([str(run), *QUICK, "--only", "style_swap", "nmi"]) == 0
    assert counted == ["clustering", "generation"]  # what is found together with them, too
    assert read(run).keys() & KEYS == {
        *("purity", "nmi", "ari", "hungarian", "active_units", "coherence", "style_swap"),
        "styles",
    }
    assert evaluate.main([str(run), *QUICK, "--only", "coherence", "probes"]) == 0
    assert counted[2:] == ["probes"]
    assert evaluate.main([str(run), *QUICK]) == 0
    assert sorted(counted[3:]) == [
        *("log_likelihood", "num_classes", "prior_clusters", "recognised", "retrieval"),
        *("subsets", "unseen"),
    ]


def test_a_damaged_file_is_told_and_made_anew_on_demand(run, counted, capsys):
    (run / evaluate.EVALUATION).write_text('{"nmi": ')
    assert evaluate.main([str(run), *QUICK, "--only", "nmi"]) == 1
    assert "evaluation.json is damaged" in capsys.readouterr().err
    assert evaluate.main([str(run), *QUICK, "--only", "nmi", "--again"]) == 0
    assert "nmi" in read(run)


def test_what_was_measured_otherwise_is_measured_anew(run, counted, capsys):
    """An evaluation.json of before a measure changed lacks what its summary reads."""
    only = ["--only", "num_classes"]
    assert evaluate.main([str(run), *QUICK, *only]) == 0
    content = read(run) | {"num_classes": {"z": {"speech": {"agreed": 10}}}}
    (run / evaluate.EVALUATION).write_text(json.dumps(content | {"format": 1}))
    assert evaluate.main([str(run), *QUICK, *only]) == 0
    assert read(run)["num_classes"] == {}
    assert counted == ["num_classes", "num_classes"]


def test_samples_of_two_partitions_share_no_noise(run, environment):
    """Nor do two modalities; what is asked for twice is the same."""
    trained = open_run(run, None, "cpu")
    noise = {
        (partition, name): trained.samples(partition)["z"][name] - mean
        for partition in ("train", "test")
        for name, mean in trained.latents(partition)["z"].items()
    }
    rows = min(map(len, noise.values()))
    assert rows >= 12  # of 96 numbers: 0.03 by chance
    for one, other in combinations(noise.values(), 2):
        assert abs(np.corrcoef(one[:rows].ravel(), other[:rows].ravel())[0, 1]) < 0.15
    again = open_run(run, None, "cpu").samples("train")["z"]["image"]
    np.testing.assert_array_equal(again, trained.samples("train")["z"]["image"])


@pytest.mark.parametrize("option", evaluate.OPTIONS)
def test_other_options_measure_anew(run, counted, option):
    assert evaluate.main([str(run), *QUICK, "--only", "probes", "nmi"]) == 0
    other = [f"--{option.replace('_', '-')}", "5"]
    assert evaluate.main([str(run), *QUICK, *other, "--only", "probes"]) == 0
    assert counted == ["clustering", "probes", "probes"]
    assert read(run)["options"][option] == 5
    assert "nmi" not in read(run)  # of the other options


def test_other_weights_measure_anew(run, counted):
    assert evaluate.main([str(run), *QUICK, "--only", "probes"]) == 0
    before = read(run)
    assert run_svi.main(["--resume", str(run), "--epochs", "3", "--no-report"]) == 0
    assert evaluate.main([str(run), *QUICK, "--only", "probes"]) == 0
    assert counted == ["probes", "probes"]
    assert read(run)["checkpoint"] != before["checkpoint"]
    assert read(run)["config"]["epochs"] == 3


def test_ctrl_c_keeps_what_is_there(run, counted, monkeypatch, capsys):
    def stop(run, options):
        raise KeyboardInterrupt

    monkeypatch.setitem(evaluate.MEASURES, "probes", stop)
    assert evaluate.main([str(run), *QUICK]) == 130
    assert "what was measured is in" in capsys.readouterr().err
    kept = read(run)
    assert "purity" in kept
    assert "probes" not in kept


def test_a_likelihood_that_is_not_finite_is_told_in_a_line(run, monkeypatch, capsys):
    def not_finite(*arguments, **options):
        raise FloatingPointError("the log-likelihood of example 7 is nan")

    monkeypatch.setattr(measures, "evaluate_likelihood", not_finite)
    assert evaluate.main([str(run), *QUICK, "--only", "nmi", "log_likelihood"]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == f"error: {run}: the log-likelihood of example 7 is nan; the others are kept"
    assert "nmi" in read(run)


def test_what_is_no_finished_run_is_told_in_a_line(run, counted, tmp_path, capsys):
    def refused(folder):
        capsys.readouterr()
        assert evaluate.main([str(folder), *QUICK]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1
        return error

    assert "nothing" in refused(tmp_path / "nothing")
    changed = shutil.copytree(run, tmp_path / "changed")
    content = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps(content | {"data_digest": "0"}))
    assert "was begun on other data: data_digest 0" in refused(changed)
    gone = shutil.copytree(run, tmp_path / "gone")
    (gone / "config.json").write_text(json.dumps(content | {"dataset": "manifest:/no/such.csv"}))
    assert "such.csv" in refused(gone)
    weights = run / "checkpoint.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "checkpoint" in refused(run)
    weights.unlink()
    assert "checkpoint" in refused(run)
    (run / "results.json").unlink()
    error = refused(run)
    assert f"is not finished: python experiments/run_svi.py --resume {run}" in error
    assert not counted
    assert not (run / "evaluation.json").exists()


@pytest.mark.parametrize("option", [["--only", "beauty"], ["--limit", "0"], ["--on"]])
def test_wrong_usage_is_refused(option, capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(["run", *option])
    assert stopped.value.code == 2
    assert "error:" in capsys.readouterr().err
