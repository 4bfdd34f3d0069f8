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
    """

    module: str
    caption: str
    columns: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


SCORES = ("purity", "nmi", "ari", "hungarian")
MEASURES = {
    "clustering": Measure(
        "clustering",
        "k-means clusters of the posterior means against the classes; dimensions in use",
        keys=(*SCORES, "active_units"),
    ),
    "num_classes": Measure(
        "num_classes", "The number of clusters, found without labels", ("agreed", "agreed_by")
    ),
    "prior_clusters": Measure(
        "prior_clusters",
        "The components of a mixture prior as clusters, and how many of them are in use",
        (*SCORES, "in_use", "components"),
    ),
    "probes": Measure("probes", "Linear classifiers of latents", ("accuracy", "chance")),
    "retrieval": Measure(
        "retrieval",
        "Whether the nearest neighbour in the other modality is of the same class",
        ("recall_at_1", "chance_recall_at_1", "mrr", "chance_mrr"),
    ),
    "coherence": Measure(
        "coherence", "The fraction of generated examples that a classifier gives the right class"
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
        "reconstructions with their originals, within classes",
        ("style", "content", "reconstruction"),
    ),
    "subsets": Measure(
        "modality_subsets", "The shared latent inferred from each subset of modalities", ("purity",)
    ),
    "unseen": Measure(
        "unseen_classes", "Classes that training left out (--unseen-classes)", ("purity", "chance")
    ),
    "recognised": Measure(
        "word_recognition",
        "The fraction of spoken digits that a recogniser, trained on other recordings, hears",
    ),
    "log_likelihood": Measure(
        "likelihood",
        "Log-likelihood by importance weighting, nats per example",
        ("mean", "se", "elbo", "effective_sample_size"),
    ),
}


def keys_of(name: str) -> tuple[str, ...]:
    """The keys of evaluation.json that a measure makes."""
    return MEASURES[name].keys or (name,)


def measure(name: str, run: TrainedRun, settings: MeasureSettings) -> dict[str, Any]:
    """Key of evaluation.json -> what the measure found."""
    module = import_module(f"pvae_pyro.evaluate.{MEASURES[name].module}")
    found = module.measure(run, settings)
    return found if MEASURES[name].keys else {name: found}


def table_rows(found: Mapping[str, Any], columns: Sequence[str]) -> list[list[Any]]:
    """Rows of a table of measures, which are nested by latent, modality and so on.

    A row is the path of keys and the values of `columns`, for every mapping that has some of them;
    without columns, the path and each fraction. Floats have three decimals; None stays.
    """
    return [
        [", ".join(path), *(f"{cell:.3f}" if isinstance(cell, float) else cell for cell in cells)]
        for path, cells in _nested(found, columns, ())
    ]


def _nested(
    found: Mapping[str, Any], columns: Sequence[str], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    if found.keys() & set(columns):
        yield path, [found.get(column) for column in columns]
        return
    for key, part in found.items():
        if isinstance(part, Mapping):
            yield from _nested(part, columns, (*path, str(key)))
        elif isinstance(part, float) and not columns:
            yield (*path, key), [part]
