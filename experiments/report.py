"""Write a report of a finished run: one HTML file, to read, to look at and to listen to.

    python experiments/report.py runs/my-run
    python experiments/report.py runs/my-run --out my-report.html

It holds what was run, the scores beside the paper's, what evaluate.py measured, examples of every
class with what the model makes of them (sound to play, images), and all of the run's figures,
which are drawn where they are missing or of earlier weights. It needs no network and no other
file. Labels choose what is shown. Exit codes: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from pvae_pyro.experiments.evaluate import EVALUATION, measured_before
from pvae_pyro.experiments.figures import FIGURES, FOLDER, draw
from pvae_pyro.experiments.support.arguments import Help, add_place, add_seed, place
from pvae_pyro.experiments.support.data import add_places, places_of
from pvae_pyro.experiments.support.errors import RunError, entry
from pvae_pyro.experiments.support.paper_table import TABLE_1, known_of, scored_part
from pvae_pyro.experiments.support.results_file import read_results
from pvae_pyro.experiments.support.run_folder import REPORT
from pvae_pyro.experiments.support.saved_run import RESULTS, SavedRun, folder_within, open_run
from pvae_pyro.experiments.support.trained import STYLE
from pvae_pyro.report.content import galleries
from pvae_pyro.report.page import (
    Html,
    element,
    figure,
    joined,
    nested_rows,
    note,
    table,
    write_page,
)

CAPTIONS = {
    "model": "The graphical models, read off the Pyro programs themselves (paper, Fig. 1)",
    "curves": "Every term of the objective, by gradient step",
    "inertia": "k-means inertia, and the number of clusters found without labels (Fig. 3)",
    "restyle": "One example's content in another's style (Figs. 4, 16-18)",
    "translate": "Content of one modality in another, in a reference's style (Figs. 5, 19-22)",
    "joint": "All modalities, from what was inferred of one (Fig. 2)",
    "tsne": "Maps of a latent by t-SNE: only who is near whom means anything (Figs. 11-15)",
}
# Keys of evaluation.json: what it is, and the fields that are shown. docs/evaluation.md has more.
MEASURES = {
    "coherence": (
        "What is generated, by classifiers trained on real data: the fraction of the right class",
        ("fraction",),
    ),
    "style_swap": (
        "Examples in another's style: the fraction judged as the content's class, of those where "
        "the two differ the content's and the style's, and how often the style follows",
        ("content_class", "content_class_other", "style_class_other", "style_follows"),
    ),
    "retrieval": (
        "The nearest neighbour in the other modality is of the same class, and chance",
        ("recall_at_1", "chance_recall_at_1", "mrr", "chance_mrr"),
    ),
    "num_classes": ("The number of clusters, found without labels", ("agreed", "agreed_by")),
    "probes": ("Linear classifiers of latents: accuracy, and chance", ("accuracy", "chance")),
    "recognised": (
        "Spoken digits as a recogniser of other training hears them: the fraction right",
        ("fraction",),
    ),
    "styles": (
        "What of a style is kept: correlations within classes with the style's example, with the "
        "content's, and of reconstructions with their originals",
        ("style", "content", "reconstruction"),
    ),
    "log_likelihood": (
        "Log-likelihood by importance weighting, nats per example",
        ("mean", "se", "elbo", "effective_sample_size"),
    ),
}


def write_report(run: SavedRun, file: Path, seed: int = 0) -> Path:
    """Write the report of a run; returns `file`, which is whole or, on any failure, as before.

    Figures that are missing, or older than the run's results, are drawn into its folder.
    seed: of the examples shown. Raises RunError where a file of the run is damaged, or its folder
    of figures is a link.
    """
    folder_within(run.folder, FOLDER)  # may be written into
    results = read_results(run.folder / RESULTS)
    measured = measured_before(run)  # first: figures take minutes, and this may be damaged
    sections = [
        ("What was run", _what_was_run(results)),
        ("Results", _results(results)),
        ("Listen and look", _listen_and_look(run, seed)),
        *_figures(run, seed),
        ("Further measures", _measures(run, measured)),
    ]
    write_page(file, f"Report of {run.folder.resolve().name}", _lead(results), sections)
    return file


def _lead(results: Mapping[str, Any]) -> Html:
    parts = [note(f"{results['model']} on {results['corpus']}, seed {results['seed']}")]
    if results["stand_in"]:
        told = "STAND-IN: other data than those asked for; not to be compared with the paper's."
        parts.insert(0, note(told, "warning"))
    return joined(parts)


def _what_was_run(results: Mapping[str, Any]) -> Html:
    config = results["config"]
    left_out = ", ".join(f"{count} {kind}" for kind, count in results.get("left_out", {}).items())
    corpus = f"{results['corpus']} (asked for: {results['dataset']})"
    facts = {
        "corpus": f"STAND-IN: {corpus}" if results["stand_in"] else corpus,
        "remarks": "; ".join(results.get("remarks", ())) or "none",
        "left out": left_out or "nothing",
        "classes": ", ".join(results["classes"]),
        "objective": f"{config.objective}: α {config.alpha:g}, β {config.beta:g}",
        "training": f"{results['epochs']} epochs, {results['steps']} steps of "
        f"{config.batch_size}, {results['seconds_training']:.0f} s; preset {results['preset']}",
        "device": f"{results['device']}; {results['platform']}",
        "commit": results["git_commit"],
        "versions": ", ".join(f"{name} {of}" for name, of in results["versions"].items()),
    }
    whole = table([], list(config.items()), "Every option, resolved", "facts")
    return joined(
        [
            table([], list(facts.items()), "The run, its data and its surroundings", "facts"),
            element("details", element("summary", "Configuration"), whole),
        ]
    )


def _results(results: Mapping[str, Any]) -> Html:
    """The scores, what shows whether a latent is in use at all, and the paper's purities."""
    corpus = results["dataset"] if results["dataset"] in TABLE_1 else "tidigit"
    paper = known_of(results, corpus)
    rows, faint = [], []
    for latent, purities in results["purity"].items():
        known = paper.get(latent, {})
        for name, purity in purities.items():
            units = results["active_units"][latent][name]
            site = f"{latent}_{name}" if latent == STYLE else latent
            cells = [f"{latent}, {name}", f"{100 * purity:.2f}"]
            cells += [f"{results[score][latent][name]:.3f}" for score in ("nmi", "ari")]
            cells += [units, f"{results['test_terms'][f'kl/{site}']:.1f}"]
            if units == 0:
                faint.append(len(rows))
                cells[0] += " (not in use: its purity means nothing)"
            if paper:
                cells.append(f"{known[name]:.2f}" if name in known else None)
            rows.append(cells)
    head = ["latent", "purity, %", "NMI", "ARI", "active", "KL"]
    head += [f"paper ({corpus.upper()}), %"] * bool(paper)
    caption = f"Scored on the {scored_part(results['config'])}: unimodal inference, k-means"
    notes = [
        "Clusters of posterior means, as in the paper's Table 1. Active: dimensions whose "
        "posterior mean varies. KL to the prior, nats: of the guide of all, so one for z_sem."
    ]
    if results["stand_in"]:
        notes += ["This run's corpus is a STAND-IN: its figures are not comparable to the paper's."]
    elif paper and corpus != results["dataset"]:
        notes += ["The paper's figures are of another corpus."]
    return joined([table(head, rows, caption, "numbers", faint), *map(note, notes)])


def _listen_and_look(run: SavedRun, seed: int) -> Html:
    sounds = run.data.log_mels
    about = (
        f"Test examples drawn at random (seed {seed}), one of a class; labels choose what is "
        "shown, and nothing else. What is generated is the model's mean, without noise. "
    )
    if sounds.keys() & set(run.names):
        about += (
            "All that is heard, originals too, was made from log-Mel energies by the Griffin-Lim "
            "algorithm, as loud as each other where peaks allow: no recording is heard as it is."
        )
    of = (run.model, run.unimodal, run.test, run.data.classes, sounds)
    parts = [note(about)]
    try:
        for title, shown in galleries(*of, seed=seed, device=run.device):
            parts += [element("h3", title), shown]
    except ValueError as error:  # of what is generated, as NaN
        raise RunError(f"{run.folder}: {error}") from error
    return joined(parts)


def _figures(run: SavedRun, seed: int) -> Iterator[tuple[str, Html]]:
    """Sections of the curves, and of all others in the run's folder of figures."""
    folder = folder_within(run.folder, FOLDER)
    written = (run.folder / RESULTS).stat().st_mtime

    def is_there(kind: str) -> bool:
        times = [file.stat().st_mtime for file in folder.glob(f"{kind}*.png")]
        return bool(times) and min(times) >= written

    if missing := [kind for kind in FIGURES if not is_there(kind)]:
        draw(run, missing, folder, ["png"], seed)
    of_kind: dict[str, list[Html]] = {kind: [] for kind in ("curves", *FIGURES, "others")}
    for file in sorted(folder.glob("*.png")):
        kind = next((kind for kind in FIGURES if file.name.startswith(kind)), "others")
        about = f"{file.stem}: {CAPTIONS.get(kind, 'another figure')}"
        of_kind[kind].append(figure(file, about))
    yield "Training", joined(of_kind.pop("curves"))
    yield "Figures", joined([*chain(*of_kind.values())])


def _measures(run: SavedRun, measured: Mapping[str, Any]) -> Html:
    if not measured:
        why = "of other weights" if (run.folder / EVALUATION).exists() else "not there"
        return note(
            f"{EVALUATION} is {why}: experiments/evaluate.py measures more than the scores."
        )
    parts = []
    for key, (what, fields) in MEASURES.items():
        if rows := nested_rows(measured.get(key, {}), fields):
            title = element("h3", key.replace("_", " ").capitalize())
            head = ("", *(field.replace("_", " ") for field in fields))
            parts += [title, table(head, rows, what, "numbers")]
    return joined(parts)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=Help,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", type=place, help="folder of a finished run")
    add("--out", type=place, metavar="FILE", help=f"else RUN/{REPORT}")
    add_place(add)
    add_seed(add, "the examples shown")
    add_places(parser)
    return parser


@entry("no report was written")
def main(argv: list[str] | None = None) -> int:
    options = make_parser().parse_args(argv)
    run = open_run(options.run, options.data, options.device, places_of(options))
    file = write_report(run, options.out or options.run / REPORT, options.seed)
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
