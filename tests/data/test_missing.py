"""Batches of examples that lack modalities."""

import json

import numpy as np
import pytest
import torch

from pvae_pyro.data.missing import Presence, few_paired, missing_at_random
from pvae_pyro.experiments import run_svi
from pvae_pyro.experiments.support import scored_training
from pvae_pyro.experiments.support.command import RunError
from tests.support.tiny import tiny_examples, tiny_loader

NAMES = ("speech", "image")


def test_missing_at_random_has_the_requested_rate_and_repeats():
    found = missing_at_random(20_000, NAMES, 0.3, seed=1)
    assert len(found) == pytest.approx(20_000 * (1 - 0.3**2), rel=0.01)
    speech, image = found.present["speech"], found.present["image"]
    assert speech.sum() == pytest.approx(20_000 * 0.7, rel=0.02)
    assert (speech & image).sum() == pytest.approx(20_000 * 0.49, rel=0.03)  # on their own
    assert (np.diff(found.rows) > 0).all()
    again = missing_at_random(20_000, NAMES, 0.3, seed=1)
    assert (again.present["image"] == image).all()
    other = missing_at_random(20_000, NAMES, 0.3, seed=2)
    assert len(other.rows) != len(found.rows) or (other.rows != found.rows).any()
    whole = found.complete
    assert len(whole) == (speech & image).sum()
    assert all(present.all() for present in whole.present.values())


def test_no_missing_modality_and_no_example_left():
    assert len(missing_at_random(10, NAMES, 0.0, seed=0).complete) == 10
    with pytest.raises(ValueError, match="nothing is left"):
        missing_at_random(1, NAMES, 0.99, seed=0)
    with pytest.raises(ValueError, match="no example has every"):
        Presence(np.arange(1), {"a": np.array([True]), "b": np.array([False])}).complete  # noqa: B018
    with pytest.raises(ValueError, match="no modality"):
        Presence(np.arange(1), {"a": np.array([False])})


@pytest.mark.parametrize("names", [NAMES, ("a", "b", "c")])
def test_few_paired_loses_nothing_but_the_links(names):
    found = few_paired(200, names, 0.05, seed=0)
    assert len(found) == 10 + len(names) * 190
    for present in found.present.values():  # each example of each modality once
        assert sorted(found.rows[present]) == list(range(200))
    together = np.all(list(found.present.values()), 0)
    assert together.sum() == 10
    assert np.sum(list(found.present.values()), 0)[~together].max() == 1
    assert len(few_paired(200, names, 0.001, seed=0).complete) == 1


def test_which_pairs_are_known_is_drawn_by_the_seed():
    known = [few_paired(200, NAMES, 0.05, seed).complete.rows.tolist() for seed in (0, 0, 1)]
    assert known[0] == known[1] != known[2]
    assert known[0] != list(range(10))
    assert few_paired(200, NAMES, 0.05, 0, 0.5).num_complete == 10


def test_no_epoch_has_the_stream_of_what_is_missing(monkeypatch):
    """The first state of each generator: two of what is missing, and two of every epoch."""
    loaders = {seed: tiny_loader(seed=seed) for seed in (0, 3, 2**32 - 1)}
    states, make = [], np.random.default_rng

    def record(key):
        states.append(make(key).bit_generator.state["state"]["state"])
        return make(key)

    monkeypatch.setattr(np.random, "default_rng", record)
    for seed, loader in loaders.items():
        missing_at_random(20, NAMES, 0.5, seed)
        few_paired(20, NAMES, 0.5, seed)
        for epoch in (*range(400), 2**32 - 1):
            loader.held(epoch, 0)
    assert len(states) == len(set(states)) == 3 * (2 + 2 * 401)


def test_tuples_are_those_of_the_presence():
    """Batches hold the tuples of `rows`, whose modalities are paired by class."""
    presence = Presence(np.array([20, 3, 20]), {name: np.ones(3, bool) for name in NAMES})
    loader = tiny_loader(batch_size=5, shuffle=False, presence=presence)
    assert loader.held(0, 0)["speech"].tolist() == [20, 3, 20]
    examples = tiny_examples()
    (batch,) = loader.epoch(0)
    expected = examples["speech"].observation(np.array([20, 3, 20]))
    assert torch.equal(batch["speech"].value, expected.value)
    labels = examples["image"].labels[loader.held(0, 0)["image"]]
    assert (labels == examples["speech"].labels[[20, 3, 20]]).all()
    fixed = [tiny_loader(anew=False, seed=seed).held(0, 0)["image"].tolist() for seed in (0, 1)]
    assert fixed[0] != fixed[1]


@pytest.mark.parametrize("anew", [True, False])
def test_pairs_are_made_in_each_epoch_or_once(anew):
    loader = tiny_loader(batch_size=23, shuffle=False, anew=anew)
    first, second = (loader.held(epoch, 0)["image"].tolist() for epoch in (0, 1))
    assert (first != second) == anew


@pytest.mark.parametrize("pairs", ["anew", "fixed"])
def test_pairs_of_the_command(small, tmp_path, monkeypatch, pairs):
    held = {}

    def fit(svi, loader, **_):
        held.update({epoch: loader.held(epoch, 0) for epoch in (0, 1)})
        raise RunError("seen")

    monkeypatch.setattr(scored_training, "fit", fit)
    options = [*small, "--pairs", pairs, "--batch-size", "100", "--out", str(tmp_path / "run")]
    assert run_svi.main(options) == 1
    images = []
    for batch in held.values():
        images.append(batch["image"][batch["speech"].argsort()].tolist())
    assert (images[0] != images[1]) == (pairs == "anew")


def test_known_pairs_have_the_requested_share():
    once, often = (few_paired(200, NAMES, 0.05, 0, share) for share in (0.0, 0.5))
    together = np.all(list(often.present.values()), 0)
    assert together.mean() == pytest.approx(0.5, abs=0.01)
    assert set(often.rows[together]) == set(once.rows[np.all(list(once.present.values()), 0)])
    assert np.ptp(np.bincount(often.rows[together])[np.unique(often.rows[together])]) <= 1
    for present in often.present.values():  # and the others once
        assert len(set(often.rows[present & ~together])) == (present & ~together).sum() == 190
    assert len(few_paired(200, NAMES, 0.9, 0, 0.5)) == len(few_paired(200, NAMES, 0.9, 0))


@pytest.mark.parametrize("anew", [True, False])
def test_known_pairs_that_are_repeated_are_paired_anew_each_time(anew):
    presence = few_paired(23, NAMES, 0.1, seed=0, share=0.5)
    complete = np.all(list(presence.present.values()), 0)
    assert presence.repetition[~complete].max() == 0
    for known in np.unique(presence.rows[complete]):
        times = presence.repetition[complete & (presence.rows == known)]
        assert sorted(times) == [*range(21)]
    loader = tiny_loader(presence=presence, anew=anew)
    partners, alone = {}, []
    for batch in range(len(loader)):
        held = loader.held(0, batch)
        for speech, image in zip(held["speech"], held["image"], strict=True):
            if speech >= 0 and image >= 0:
                partners.setdefault(speech, set()).add(image)
            elif image >= 0:
                alone.append(image)
    assert len(partners) == 2
    assert len(alone) == len(set(alone)) == 21
    for of in partners.values():  # nearly all of the images of a class
        assert len(of) > 4 if anew else len(of) == 1


def test_batches_mark_what_is_missing_and_do_not_show_it():
    presence = few_paired(23, NAMES, 0.3, seed=0)
    loader = tiny_loader(presence=presence, anew=False)
    examples = tiny_examples()
    loose = tiny_loader(batch_size=100, shuffle=False, anew=False)
    (everything,) = loose.epoch(0)
    seen = {name: [] for name in NAMES}
    assert loader.num_examples == len(presence) == 7 + 2 * 16
    for epoch in (0, 1):
        for batch in loader.epoch(epoch):
            for name, x in batch.items():
                assert x.present.dtype == torch.bool
                assert (x.value[~x.present] == 0).all()
                if x.lengths is not None:
                    assert (x.lengths[~x.present] == 1).all()
                seen[name] += [] if epoch else [v.sum().item() for v in x.value[x.present]]
            some = batch["speech"].present | batch["image"].present
            assert some.all()
    for name in NAMES:
        wanted = [v.sum().item() for v in everything[name].value]
        np.testing.assert_allclose(sorted(seen[name]), sorted(wanted), rtol=1e-4, atol=1e-4)
    assert len(examples["speech"]) == 23


@pytest.mark.usefixtures("environment")
class TestCommand:
    """Of the whole command, on a corpus of twelve pairs."""

    def run(self, small, folder, *options):
        code = run_svi.main([*small, "--epochs", "2", "--out", str(folder), *options])
        assert code == 0
        return json.loads((folder / "results.json").read_text())

    def test_missing(self, small, tmp_path):
        results = self.run(small, tmp_path / "run", "--missing", "0.5")
        counts = results["num_examples"]
        assert counts["complete"] < counts["train"] < 12
        assert "each modality of each example is missing with probability 0.5" in str(results)

    def test_incomplete_examples_dropped(self, small, tmp_path):
        results = self.run(small, tmp_path / "run", "--missing", "0.3", "--drop-incomplete")
        counts = results["num_examples"]
        assert 0 < counts["complete"] == counts["train"] < 12

    @pytest.mark.parametrize("model", ["pvae", "jmvae"])
    def test_few_pairs(self, small, tmp_path, model):
        options = ("--paired", "0.25", "--pairs", "fixed", "--model", model)
        counts = self.run(small, tmp_path / "run", *options)["num_examples"]
        assert counts == {"train": 4 * 9, "complete": 3, "test": 12}
        counts = self.run(small, tmp_path / "once", *options, "--paired-share", "0")["num_examples"]
        assert counts == {"train": 3 + 2 * 9, "complete": 3, "test": 12}
        counts = self.run(small, tmp_path / "few", *options, "--drop-incomplete")["num_examples"]
        assert counts == {"train": 3, "complete": 3, "test": 12}
