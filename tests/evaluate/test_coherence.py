"""Coherence of generation, with a model whose every generated class is known beforehand."""

import json

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.evaluate import coherence as coherence_module
from pvae_pyro.evaluate import style_swap as style_swap_module
from pvae_pyro.evaluate.judges import train_judge
from tests.support.measuring import measured_by
from tests.support.tiny import tiny_examples, tiny_pair

coherence = measured_by(coherence_module)
style_swap = measured_by(style_swap_module)
CLASSES, STYLES = 3, 2
NAMES = ("a", "b")


class Model(nn.Module):
    """x^m = [z_sem + leak * z_style_m, z_style_m], or 0 in place of a style that is ignored."""

    def __init__(self, styles=True, leak=0.0, ignore_style=False):
        super().__init__()
        self.styles, self.leak, self.ignore_style = styles, leak, ignore_style

    def forward(self, batch=None, *, names=None, observed=None, num_examples=None):
        names = NAMES if names is None else names
        with pyro.plate("examples", num_examples):
            z = pyro.sample("z_sem" if self.styles else "z", normal(torch.zeros(CLASSES)))
            for name in names:
                style = torch.zeros(num_examples, STYLES)
                if self.styles:
                    style = pyro.sample(f"z_style_{name}", normal(torch.zeros(STYLES)))
                # What leaks: the style's numbers are added to the scores of the first classes.
                z_leaked = z + self.leak * nn.functional.pad(style, (0, CLASSES - STYLES))
                shown = 0 * style if self.ignore_style else style
                pyro.sample(name, normal(torch.cat([z_leaked, shown], -1)))


class Guide(nn.Module):
    """The model's inverse, but that the class comes out `shift` classes further on."""

    def __init__(self, name, styles=True, shift=0):
        super().__init__()
        self.name, self.styles, self.shift = name, styles, shift

    def forward(self, batch, **_):
        x = batch[self.name].value
        with pyro.plate("examples", len(x)):
            sem = x[:, :CLASSES].roll(self.shift, 1)
            pyro.sample("z_sem" if self.styles else "z", normal(sem))
            if self.styles:
                pyro.sample(f"z_style_{self.name}", normal(x[:, CLASSES:]))


class Judge(nn.Module):
    def forward(self, observation):
        return observation.value[:, :CLASSES]


def normal(loc):
    return dist.Normal(loc, 1.0).to_event(1)


def examples(size=40, seed=0, same_class=False):
    rng = np.random.default_rng(seed)
    labels = np.zeros(size, int) if same_class else np.arange(size) % CLASSES
    style = rng.normal(size=(size, STYLES))
    values = np.concatenate([np.eye(CLASSES)[labels], style], 1).astype(np.float32)
    return Examples(values, labels, Normalisation(np.float32(0), np.float32(1)))


def setting(shift=None, **model):
    styles = model.get("styles", True)
    guides = {name: Guide(name, styles, (shift or {}).get(name, 0)) for name in NAMES}
    judges = {name: Judge() for name in NAMES}
    return Model(**model), guides, judges, {"a": examples(40), "b": examples(30, seed=1)}


def test_a_perfect_model_is_coherent():
    result = coherence(*setting())
    chance, largest = result.pop("chance"), result.pop("largest_class")
    assert result == {
        "judge_accuracy": {"a": 1.0, "b": 1.0},
        "reconstruction": {"a": 1.0, "b": 1.0},
        "a->b": 1.0,
        "b->a": 1.0,
        "real_style": {"a->b": 1.0, "b->a": 1.0},
        "prior": {"a,b": 1.0},
        "diversity": {"a": {}, "b": {}},
        "num_examples": {"a": 40, "b": 30, "prior": 1000},
        "seed": 0,
    }
    assert json.loads(json.dumps(result)) == result
    # Of a, 14, 13 and 13 of 40 examples are of the three classes; of b, ten of 30 each.
    of_a, of_b = (14**2 + 2 * 13**2) / 40**2, 1 / 3
    expected = {
        "judge_accuracy": {"a": of_a, "b": of_b},
        "reconstruction": {"a": of_a, "b": of_b},
        "a->b": of_a,
        "b->a": of_b,
        "real_style": {"a->b": of_a, "b->a": of_b},
    }
    for what, level in expected.items():
        assert chance[what] == pytest.approx(level), what
    # The prior is the same for each class: about a third of 1000 draws is of the commonest one.
    assert chance["prior"]["a,b"] == pytest.approx(1 / 3, abs=0.01)
    assert largest == pytest.approx(chance["largest_class"], abs=0.04)


def test_each_direction_is_judged_by_its_source():
    """From a comes the next class: all of a's translations are wrong, b's are right."""
    result = coherence(*setting(shift={"a": 1}))
    assert (result["a->b"], result["b->a"]) == (0.0, 1.0)
    assert result["real_style"] == {"a->b": 0.0, "b->a": 1.0}
    assert result["reconstruction"] == {"a": 0.0, "b": 1.0}
    assert result["prior"] == {"a,b": 1.0}


def test_a_style_that_holds_the_class_is_seen():
    """Style scores of thousands decide the class: right in one of three or so."""
    result = coherence(*setting(leak=1e3))
    assert 0.1 < result["a->b"] < 0.6
    assert 0.1 < result["prior"]["a,b"] < 0.6
    swapped = style_swap(*setting(leak=1e3))["a"]
    assert swapped["content_class"] < 0.6


def test_style_is_drawn_from_its_prior_or_taken_from_real_examples():
    """All of a is of class 0, as all of b's real styles say; from the prior some say another."""
    model, guides, judges, test = setting(leak=1e3)
    test["a"] = examples(same_class=True)
    test["b"].values[:, CLASSES:] = [1.0, 0.0]
    result = coherence(model, guides, judges, test)
    assert result["real_style"]["a->b"] == 1.0
    assert result["a->b"] < 0.6


def test_swapped_styles_of_a_perfect_model():
    result = style_swap(*setting())
    assert result.keys() == {"a", "b"}
    assert result["a"].pop("num_other") in range(1, 40)
    by_chance = {key: result["a"].pop(key) for key in [*result["a"]] if key.endswith("_chance")}
    assert by_chance.pop("style_follows_chance") == 0.5
    assert by_chance == pytest.approx(dict.fromkeys(by_chance, 1 / 3), abs=0.03)
    assert len(by_chance) == 3
    assert result["a"] == {
        "content_class": 1.0,
        "content_class_other": 1.0,
        "style_class_other": 0.0,
        "style_follows": 1.0,
        "num_examples": 40,
    }


def test_a_swap_that_moves_the_class_and_not_the_content():
    """The class lies in the style alone: the next example's, and so of its class, if another."""
    model, guides, judges, test = setting(leak=1e3)
    onehot = np.eye(CLASSES)[test["a"].labels][:, :STYLES] - np.eye(CLASSES)[2][:STYLES]
    onehot[test["a"].labels == 2] = -1.0
    test["a"].values[:, CLASSES:] = onehot
    result = style_swap(model, guides, judges, test)["a"]
    assert (result["content_class_other"], result["style_class_other"]) == (0.0, 1.0)
    same = 1 - result["num_other"] / result["num_examples"]
    assert result["content_class"] == pytest.approx(same)


def test_a_style_that_is_not_decoded_does_not_follow():
    """Inferred again it is 0: nearer to b's style where that is the shorter, half of the time."""
    model, guides, judges, test = setting(ignore_style=True)
    test["a"].values[:, CLASSES:] = 1.0  # equally far: not nearer
    result = style_swap(model, guides, judges, test)
    assert result["a"]["style_follows"] == 0.0
    assert 0.2 < result["b"]["style_follows"] < 0.8


def test_a_model_without_styles_has_no_style_swap():
    args = setting(styles=False)
    assert style_swap(*args) == {}
    result = coherence(*args)
    assert (result["a->b"], result["real_style"]) == (1.0, {})


def test_the_result_repeats_and_the_random_state_does_not_change():
    """With networks and sequences."""
    model, guide = tiny_pair()
    test = tiny_examples()
    judges = {name: train_judge(test[name], 3, steps=2) for name in test}
    before = torch.get_rng_state()
    args = (model.eval(), guide.eval(), judges, test)
    first = coherence(*args, limit=7), style_swap(*args, limit=7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert (coherence(*args, limit=7), style_swap(*args, limit=7)) == first
    assert first[0]["num_examples"] == {"speech": 7, "image": 7, "prior": 7}
