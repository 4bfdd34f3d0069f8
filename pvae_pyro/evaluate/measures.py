"""All measures of evaluate.py: which keys of evaluation.json they make, and what they mean.

A new measure is a module in this folder with a function ``measure(run, settings)``, which returns
what evaluation.json holds under its key, and an entry of `MEASURES`.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun


class Measure(NamedTuple):
    """module: in this folder; imported when it measures. caption: what the numbers are.

    columns: the fields that tables show (docs/evaluation.md explains them); without, all fractions.
    keys: of evaluation.json if ``measure`` returns several; else the measure's name is its key.
    needs_labels: the keys that are left out if the data have no labels.
    """

    module: str
    caption: str
    columns: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    needs_labels: tuple[str, ...] = ()


SCORES = ("purity", "nmi", "ari", "hungarian")
CHANCES = ("purity_chance", "nmi_chance", "hungarian_chance")
MEASURES = {
    "clustering": Measure(
        "clustering",
        "k-means clusters of the posterior means against the classes, and random clusters of the "
        "same sizes; dimensions in use",
        keys=(*SCORES, *CHANCES, "active_units"),
        needs_labels=(*SCORES, *CHANCES),
    ),
    "num_classes": Measure(
        "num_classes", "The number of classes, counted without labels", ("number", "reason")
    ),
    "prior_clusters": Measure(
        "prior_clusters",
        "The components of a mixture prior as clusters, and how many of them are in use",
        (*SCORES, "in_use", "components"),
    ),
    "kl": Measure(
        "kl",
        "KL divergence of the unimodal posteriors to N(0, I), in nats; how many dimensions are "
        "active, having at least 0.1 nats",
        ("nats", "active", "dimensions"),
    ),
    "probes": Measure(
        "probes",
        "Classifiers of latents, linear unless they are called nonlinear: of posterior means, of "
        "the active dimensions of means, and of samples",
        ("accuracy", "chance"),
        needs_labels=("probes",),
    ),
    "dependence": Measure(
        "dependence",
        "Dependence of z_style on z_sem (normalised HSIC): 0 on average if there is none, at most "
        "1; and of permuted pairs, which have none",
        ("dependence", "permuted", "permuted_sd"),
    ),
    "retrieval": Measure(
        "retrieval",
        "Whether the nearest neighbour in the other modality is of the same class; for known "
        "pairs, also whether it is the partner",
        ("recall_at_1", "chance_recall_at_1", "mrr", "chance_mrr"),
    ),
    "coherence": Measure(
        "coherence",
        "The fraction of generated examples that a classifier gives the right class; of draws from "
        "the prior, also the share of the commonest class, and their spread within classes divided "
        "by that of real examples",
        needs_labels=("coherence",),
    ),
    "style_swap": Measure(
        "style_swap",
        "Examples in the style of another one: how often they are of the content's class; if the "
        "two differ, of the content's and the style's; and how often the style follows",
        ("content_class", "content_class_other", "style_class_other", "style_follows"),
    ),
    "styles": Measure(
        "styles",
        "Correlation of restyled examples with the style's example and with the content's, and of "
        "reconstructions with their originals, within classes (by chance 0)",
        ("style", "content", "reconstruction", "reason"),
    ),
    "fidelity": Measure(
        "fidelity",
        "Reconstruction error in normalised units, and the Fréchet distance to real examples in a "
        "judge's features",
        ("frechet", "error"),
    ),
    "subsets": Measure(
        "modality_subsets",
        "The shared latent inferred from each subset of modalities",
        ("purity",),
        needs_labels=("subsets",),
    ),
    "unseen": Measure(
        "unseen_classes",
        "Classes that training left out (--unseen-classes)",
        ("purity",),
        needs_labels=("unseen",),
    ),
    "recognised": Measure(
        "word_recognition",
        "The fraction of spoken digits that a recogniser, trained on other recordings, hears",
        needs_labels=("recognised",),
    ),
    "log_likelihood": Measure(
        "likelihood",
        "Log-likelihood by importance weighting, nats per example; where that is not reliable, the "
        "elbo and the reason",
        ("mean", "se", "elbo", "reason"),
    ),
}


def keys_of(name: str, labelled: bool = True) -> tuple[str, ...]:
    """The keys of evaluation.json that a measure makes, of data with labels or without."""
    keys = MEASURES[name].keys or (name,)
    return keys if labelled else tuple(k for k in keys if k not in MEASURES[name].needs_labels)


def measure(name: str, run: TrainedRun, settings: MeasureSettings) -> dict[str, Any]:
    """Key of evaluation.json -> what the measure found."""
    module = import_module(f"pvae_pyro.evaluate.{MEASURES[name].module}")
    found = module.measure(run, settings)
    return found if MEASURES[name].keys else {name: found}


def table_rows(found: Mapping[str, Any], columns: Sequence[str]) -> list[list[Any]]:
    """Rows of a table of measures, which are nested by latent, modality and so on.

    A row is the path of keys and the values of `columns`, for every mapping that has some of them;
    without columns, the path and each fraction. Floats have three decimals, and their chance level
    in brackets if there is one: it is beside a column, with _chance at the end of its name, or for
    a fraction at its path in found["chance"]. None stays.
    """
    chances = found.get("chance")
    if isinstance(chances, Mapping):
        found = {key: part for key, part in found.items() if key != "chance"}
    return [
        [", ".join(path), *(cell(value, by_chance) for value, by_chance in cells)]
        for path, cells in _nested(found, columns, (), chances)
    ]


def cell(value: Any, by_chance: float | None = None) -> Any:
    """A score of a table, with its chance level if there is one; floats have three decimals."""
    if not isinstance(value, float):
        return value
    return f"{value:.3f}" if by_chance is None else f"{value:.3f} (chance {by_chance:.3f})"


def _nested(
    found: Mapping[str, Any], columns: Sequence[str], path: tuple[str, ...], chances: Any
) -> Iterator[tuple[tuple[str, ...], list[tuple[Any, Any]]]]:
    """The path of each row, and its values with their chance levels."""
    if found.keys() & set(columns):
        yield path, [(found.get(column), found.get(f"{column}_chance")) for column in columns]
        return
    chances = chances if isinstance(chances, Mapping) else {}
    for key, part in found.items():
        if isinstance(part, Mapping):
            yield from _nested(part, columns, (*path, str(key)), chances.get(key))
        elif isinstance(part, float) and not columns:
            yield (*path, key), [(part, chances.get(key))]
