"""Write a report of a finished run: one HTML file, to read, to look at and to listen to.

    python experiments/report.py runs/my-run
    python experiments/report.py runs/my-run --out my-report.html

It holds the configuration, the scores beside the paper's, the measures of evaluate.py, examples of
every class with what the model makes of them (sound to play, images), and all of the run's
figures, which are drawn if they are missing or of earlier weights. It needs no network and no other
file. Labels choose what is shown. Exit codes: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: use the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Mapping
from typing import Any

from pvae_pyro.evaluate.measures import MEASURES, table_rows
from pvae_pyro.experiments.evaluate import EVALUATION, measured_before
from pvae_pyro.experiments.figures import FIGURES, FOLDER, draw
from pvae_pyro.experiments.support.arguments import Help, add_place, add_seed, place
from pvae_pyro.experiments.support.command import RunError, entry
from pvae_pyro.experiments.support.data import add_places, places_of
from pvae_pyro.experiments.support.paper_table import TABLE_1, known_of, score_rows, scored_part
from pvae_pyro.experiments.support.results import Results, read_results
from pvae_pyro.experiments.support.run_folder import REPORT
from pvae_pyro.experiments.support.saved_run import RESULTS, SavedRun, folder_within, open_run
from pvae_pyro.io.files import write_whole
from pvae_pyro.report.gallery import galleries
from pvae_pyro.report.page import PageFigure, read_figure, render

CAPTIONS = {
    "model": "The graphical models, read off the Pyro programs themselves (paper, Fig. 1)",
    "curves": "Every term of the objective, by gradient step",
    "inertia": "k-means inertia, and the number of classes counted without labels (Fig. 3)",
    "restyle": "One example's content in another's style (Figs. 4, 16-18)",
    "translate": "Content of one modality in another, in a reference's style (Figs. 5, 19-22)",
    "joint": "All modalities, from a latent inferred from one (Fig. 2)",
    "tsne": "Maps of a latent by t-SNE; only neighbourhood means anything (Figs. 11-15)",
}


def write_report(run: SavedRun, file: Path, seed: int = 0) -> Path:
    """Write the report of a run; returns `file`, which is unchanged on any failure.

    Figures that are missing, or older than the run's results, are drawn into its folder.
    seed: of the examples shown. Raises RunError if a file of the run is damaged, or its folder
    of figures is a link.
    """
    folder_within(run.folder, FOLDER)
    results = read_results(run.folder / RESULTS)
    measured = measured_before(run)  # before the figures, which take minutes
    try:
        shown = galleries(
            run.model, run.unimodal, run.test, run.data.classes, run.data.log_mels,
            seed=seed, device=run.device,
        )  # fmt: skip
    except ValueError as error:  # of generated values, such as NaN
        raise RunError(f"{run.folder}: {error}") from error
    figures = _figures(run, seed)
    other_weights = (run.folder / EVALUATION).exists()
    page = render(
        name=run.folder.resolve().name,
        lead=f"{results.model} on {results.corpus}, seed {results.seed}",
        stand_in=results.stand_in,
        run=_what_was_run(results),
        config=results.config.model_dump(mode="json"),
        **_scores(results),
        not_scored=results.not_scored,
        seed=seed,
        audible=bool(run.data.log_mels.keys() & set(run.names)),
        galleries=shown,
        curves=figures.pop("curves"),
        figures=[one for of_kind in figures.values() for one in of_kind],
        not_measured="" if measured else "of other weights" if other_weights else "missing",
        measures=_measures(measured),
    )
    write_whole(file, page.encode())
    return file


def _what_was_run(results: Results) -> dict[str, str | None]:
    config = results.config
    corpus = f"{results.corpus} (--dataset {results.dataset})"
    return {
        "corpus": f"STAND-IN: {corpus}" if results.stand_in else corpus,
        "remarks": "; ".join(results.remarks) or "none",
        "left out": ", ".join(f"{n} {kind}" for kind, n in results.left_out.items()) or "nothing",
        "classes": ", ".join(results.classes) or "none: the data have no labels",
        "objective": f"{config.objective}: α {config.alpha:g}, β {config.beta:g}",
        "training": f"{results.epochs} epochs, {results.steps} steps of {config.batch_size}, "
        f"{results.seconds_training:.0f} s; preset {results.preset}",
        "device": f"{results.device}; {results.platform}",
        "commit": results.git_commit,
        "versions": ", ".join(f"{name} {of}" for name, of in results.versions.items()),
    }


def _scores(results: Results) -> dict[str, Any]:
    corpus = results.dataset if results.dataset in TABLE_1 else "tidigit"
    paper = known_of(results, corpus)
    scores = []
    for latent, name, in_use, cells in score_rows(results, corpus):
        meaning = "" if results.not_scored else ": its purity means nothing"
        unused = "" if in_use else f" (not in use{meaning})"
        shown = cells if paper else cells[:-1]
        scores.append({"cells": [f"{latent}, {name}{unused}", *shown], "in_use": in_use})
    return {
        "scores": scores,
        "scored_on": scored_part(results.config.hold_out),
        "paper": corpus.upper() if paper else None,
        "paper_is_of_another_corpus": bool(paper) and corpus != results.dataset,
    }


def _figures(run: SavedRun, seed: int) -> dict[str, list[PageFigure]]:
    """All in the run's folder of figures, by kind; missing and outdated ones are drawn first."""
    folder = run.folder / FOLDER
    written = (run.folder / RESULTS).stat().st_mtime

    def is_current(kind: str) -> bool:
        times = [file.stat().st_mtime for file in folder.glob(f"{kind}*.png")]
        return bool(times) and min(times) >= written

    if missing := [kind for kind in FIGURES if not is_current(kind)]:
        draw(run, missing, folder, ["png"], seed)
    by_kind: dict[str, list[PageFigure]] = {kind: [] for kind in ("curves", *FIGURES, "others")}
    for file in sorted(folder.glob("*.png")):
        kind = next((kind for kind in FIGURES if file.name.startswith(kind)), "others")
        by_kind[kind].append(read_figure(file, CAPTIONS.get(kind, "another figure")))
    return by_kind


def _measures(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    tables = []
    for name, one in MEASURES.items():
        if rows := table_rows(measured.get(name, {}), one.columns):
            columns = one.columns or ("value",)
            head = ["", *(column.replace("_", " ") for column in columns)]
            title = name.replace("_", " ").capitalize()
            tables.append({"title": title, "caption": one.caption, "head": head, "rows": rows})
    return tables


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help, allow_abbrev=False)
    add = parser.add_argument
    add("run", type=place, help="folder of a finished run")
    add("--out", type=place, metavar="FILE", help=f"the HTML file; else RUN/{REPORT}")
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
