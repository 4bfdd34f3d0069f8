"""Probes: which information a classifier finds in a latent."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from pvae_pyro.evaluate.kl import active_dimensions
from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun


def linear_probe(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    most: int = 3000,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy on `test` of logistic regression (scikit-learn, C = 1) fitted to `train`.

    Latents are standardised by the training part, of which at most `most` random examples are used.
    `chance` is the relative frequency of the test part's commonest label.

    Args: latents ``[N, D]`` and labels ``[N]`` of each part.

    Returns accuracy and chance, in [0, 1], num_train and num_test; or accuracy and chance None
    and the reason, if the training part has only one label.
    """
    train, train_labels = _at_most(most, train, train_labels, seed)
    return _fitted(LogisticRegression(max_iter=1000), train, train_labels, test, test_labels)


def nonlinear_probe(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    most: int = 3000,
    seed: int = 0,
) -> dict[str, Any]:
    """As `linear_probe`, by a support vector machine (scikit-learn, radial kernel, C = 10)."""
    train, train_labels = _at_most(most, train, train_labels, seed)
    return _fitted(SVC(C=10.0), train, train_labels, test, test_labels)


def _at_most(
    most: int, train: np.ndarray, labels: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    if len(train) <= most:
        return train, labels
    index = np.random.default_rng(seed).choice(len(train), most, replace=False)
    return train[index], labels[index]


def _fitted(
    classifier: BaseEstimator,
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
) -> dict[str, Any]:
    if len(np.unique(train_labels)) < 2:
        return _unknown("the training part has one label only")
    if not train.shape[1]:
        return _unknown("the latent has no such dimension")
    probe = make_pipeline(StandardScaler(), classifier).fit(train, train_labels)
    counts = np.unique(test_labels, return_counts=True)[1]
    return {
        "accuracy": float((probe.predict(test) == test_labels).mean()),
        "chance": float(counts.max() / len(test)),
        "num_train": len(train),
        "num_test": len(test),
    }


def group_probe(
    train: np.ndarray,
    train_groups: Sequence[str],
    test: np.ndarray,
    test_groups: Sequence[str],
    most: int = 3000,
    most_groups: int = 100,
    seed: int = 0,
) -> dict[str, Any]:
    """`linear_probe` of the examples' groups, e.g. speakers. "fitted_to" says where it was fitted:

    - "train": if every group of the test partition was seen in training.
    - "half of test": if not, e.g. when partitions are by speaker. A random half of the test
      partition, stratified by group, takes the training part's place. Groups of fewer than 4
      examples are left out.

    Only the `most_groups` commonest groups of the test partition are probed, to save time.

    Args: latents ``[N, D]`` and groups ``[N]`` of each partition; groups may be empty.

    Returns what `linear_probe` does, with fitted_to and num_groups; or accuracy and chance None
    and the reason: no groups are known, or fewer than two can be probed.
    """
    if not len(test_groups):
        return _unknown("no groups are known")
    known, known_groups = np.asarray(train), np.asarray(train_groups)
    test, groups = np.asarray(test), np.asarray(test_groups)
    seen = len(known_groups) > 0 and bool(np.isin(groups, known_groups).all())
    names, counts = np.unique(groups, return_counts=True)
    if not seen:
        names, counts = names[counts >= 4], counts[counts >= 4]
    names = names[np.argsort(-counts, kind="stable")[:most_groups]]
    if len(names) < 2:
        return _unknown("fewer than two groups can be probed")
    test, groups = _only(names, test, groups)
    if seen:
        known, known_groups = _only(names, known, known_groups)
    else:
        known, test, known_groups, groups = train_test_split(
            test, groups, test_size=0.5, stratify=groups, random_state=seed
        )
    return {
        **linear_probe(known, known_groups, test, groups, most, seed),
        "fitted_to": "train" if seen else "half of test",
        "num_groups": len(names),
    }


def measure(run: TrainedRun, settings: MeasureSettings) -> dict[str, Any]:
    """The class and the speaker, probed in each latent and modality.

    class, speaker: a linear probe of posterior means. class_of_samples, speaker_of_samples: of one
    sample of each posterior, which is what a decoder has seen in training: a mean may show what a
    sample of the same posterior hides in its noise. class_nonlinear: a non-linear probe of means,
    class_nonlinear_of_samples: of samples.
    class_of_active, class_nonlinear_of_active: both of means in the `active_dimensions` alone,
    whose number is num_dims.
    """
    train, test = run.examples("train"), run.test
    found: dict[str, Any] = {}
    for suffix, sampled in (("", False), ("_of_samples", True)):
        of_train = run.latents("train", sampled)
        for latent, of_modality in run.latents("test", sampled).items():
            for name, values in of_modality.items():
                known, a, b = of_train[latent][name], train[name], test[name]
                probes = found.setdefault(latent, {}).setdefault(name, {})
                probes[f"class{suffix}"] = linear_probe(known, a.labels, values, b.labels)
                probes[f"speaker{suffix}"] = group_probe(known, a.groups, values, b.groups)
                if sampled:
                    found_in_samples = nonlinear_probe(known, a.labels, values, b.labels)
                    probes["class_nonlinear_of_samples"] = found_in_samples
                else:
                    active = active_dimensions(run.kl("train")[latent][name])
                    probes |= _of_means(known, a.labels, values, b.labels, active)
    return found


def _of_means(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    active: np.ndarray,
) -> dict[str, Any]:
    """The further probes of the class. active: dimensions, ``[D]`` bool."""
    of_active = train[:, active], train_labels, test[:, active], test_labels
    num_dims = {"num_dims": int(active.sum())}
    return {
        "class_nonlinear": nonlinear_probe(train, train_labels, test, test_labels),
        "class_of_active": linear_probe(*of_active) | num_dims,
        "class_nonlinear_of_active": nonlinear_probe(*of_active) | num_dims,
    }


def _only(
    names: np.ndarray, latents: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.isin(groups, names)
    return latents[chosen], groups[chosen]


def _unknown(reason: str) -> dict[str, Any]:
    return {"accuracy": None, "chance": None, "reason": reason}
