import json

import numpy as np
import pytest

from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.data.paired import PairedData
from pvae_pyro.evaluate.unseen_classes import unseen_class_scores
from pvae_pyro.experiments import evaluate, run_svi
from pvae_pyro.experiments.support.build import presence
from tests.support.configs import config
from tests.support.tiny import tiny_examples


def blobs(centres, each=20, spread=0.1, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(len(centres)).repeat(each)
    return np.array(centres, float)[labels] + spread * rng.normal(size=(len(labels), 2)), labels


def test_unseen_classes_apart():
    centres = [(0, 0), (5, 0), (0, 5), (9, 9), (20, 0)]
    train, test = blobs(centres[:3]), blobs(centres, seed=1)
    found = unseen_class_scores(*train, *test, unseen=[3, 4])
    assert found["seen"]["purity"] == found["unseen"]["purity"] == found["all"]["purity"] == 1.0
    assert found["unseen"]["purity_chance"] == pytest.approx(0.55, abs=0.05)
    assert found["all"]["purity_chance"] == pytest.approx(0.3, abs=0.05)
    assert found["novelty_auroc"] == 1.0
    assert found["nearest_seen"][4] == {1: 1.0}  # (5, 0) is nearest to (20, 0)
    assert sum(found["nearest_seen"][3].values()) == pytest.approx(1.0)


def test_unseen_class_on_top_of_a_seen_one():
    train, test = blobs([(0, 0), (5, 0)]), blobs([(0, 0), (5, 0), (5, 0)], seed=1)
    found = unseen_class_scores(*train, *test, unseen=[2])
    assert found["unseen"] is None
    assert found["all"]["purity"] < 0.9
    assert found["nearest_seen"] == {2: {1: 1.0}}
    assert found["novelty_auroc"] == pytest.approx(0.5, abs=0.2)


def test_novelty_is_how_far_the_nearest_seen_class_is():
    """Far from most seen classes is no novelty; far from all is."""
    centres = [(0, 0), (10, 0), (200, 0), (5, 20)]
    found = unseen_class_scores(*blobs(centres[:3]), *blobs(centres, seed=1), unseen=[3])
    assert found["novelty_auroc"] == 1.0


@pytest.mark.parametrize(
    "gaps",
    [[], ["--missing", "0.3"], ["--missing", "0.3", "--drop-incomplete"], ["--paired", "0.5"]],
)
def test_no_batch_has_an_unseen_class(gaps):
    data = PairedData("made up", True, ("a", "b", "c"), tiny_examples(), tiny_examples())
    one = config(*gaps, "--unseen-classes", "b")
    loader = PairedLoader(data.train, 4, presence=presence(one, data))
    seen = set()
    for epoch in range(3):
        for batch in range(len(loader)):
            for name, index in loader.held(epoch, batch).items():
                seen |= set(data.train[name].labels[index[index >= 0]].tolist())
    assert seen == {0, 2}


@pytest.mark.usefixtures("environment")
def test_unseen_classes_on_the_command_line(small, tmp_path, capsys):
    folder = tmp_path / "run"
    options = [*small, "--epochs", "2", "--out", str(folder)]
    assert run_svi.main([*options, "--unseen-classes", "b,x"]) == 1
    assert "no class x" in capsys.readouterr().err
    assert run_svi.main([*options, "--unseen-classes", "b"]) == 0
    results = json.loads((folder / "results.json").read_text())
    assert results["num_examples"] == {"train": 8, "complete": 8, "test": 12}
    assert results["classes"] == ["a", "b", "c"]
    assert evaluate.main([str(folder), "--only", "unseen", "subsets", "--judge-steps", "5"]) == 0
    content = json.loads((folder / "evaluation.json").read_text())
    unseen = content["unseen"]["z_sem"]["speech"]
    assert list(unseen["nearest_seen"]) == ["1"]
    assert set(unseen["nearest_seen"]["1"]) <= {"0", "2"}
    found = content["unseen"]["z_sem"]["retrieval"]
    assert set(found) == {"speech->image", "image->speech"}
    assert found["speech->image"]["num_queries"] == 4  # of class b alone
    assert set(content["subsets"]) == {"speech", "image", "speech+image"}
    assert set(content["subsets"]["speech+image"]) == {"product", "multimodal"}
    assert "unseen, z_sem, speech" in capsys.readouterr().out
