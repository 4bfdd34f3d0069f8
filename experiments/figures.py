"""Draw the paper's figures of a finished run, as PNG and PDF, into its folder figures/.

    python experiments/figures.py runs/my-run
    python experiments/figures.py runs/my-run --only restyle translate --formats png

model          the graphical models, read off the Pyro programs themselves (Fig. 1)
curves         every term of the objective, by step
inertia        k-means inertia and the number of classes found (Fig. 3)
restyle        one example's content in another's style (Figs. 4, 16-18)
translate      content of one modality in the other, in the style of a reference (Figs. 5, 19-22)
joint          both modalities from a latent inferred from one (Fig. 2)
tsne           maps of every latent (Figs. 11-15)

Models without style latents have neither restyle nor translate. Labels choose and colour what is
shown; without labels, examples are chosen at random. Exit codes: 0, 1 for an error, 2 for wrong
usage, 130 for Ctrl-C.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: use the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from pvae_pyro.evaluate.measures import measure
from pvae_pyro.evaluate.run import STYLE, MeasureSettings, is_shared
from pvae_pyro.experiments.evaluate import measured_before
from pvae_pyro.experiments.support.arguments import Help, add_place, add_seed, place
from pvae_pyro.experiments.support.command import RunError, entry
from pvae_pyro.experiments.support.data import add_places, places_of
from pvae_pyro.experiments.support.saved_run import SavedRun, folder_within, open_run
from pvae_pyro.figures.curves import curves_figure, read_metrics
from pvae_pyro.figures.embeddings import MOST_POINTS, embed, pooled_figure, scatter_figure
from pvae_pyro.figures.grids import joint_latent_grid, translation_grid
from pvae_pyro.figures.inertia import inertia_figure
from pvae_pyro.figures.observations import SequenceAxes, panels
from pvae_pyro.figures.plate_diagram import guide_edges, model_edges, plate_diagrams
from pvae_pyro.figures.style import save_figure
from pvae_pyro.training.records import METRICS

FOLDER = "figures"  # of a run
LATENTS = {"z_sem": r"$z_\mathrm{sem}$", "z": "$z$", STYLE: r"$z_\mathrm{style}$"}
MOST_SPEAKERS = 20  # more colours cannot be told apart
Drawn = Iterator[tuple[str, Figure]]  # file name, figure


def model(run: SavedRun, seed: int) -> Drawn:
    """Generation, and inference from everything and from each modality (paper, Fig. 1)."""
    batch = {name: examples.observation(np.arange(2)) for name, examples in run.test.items()}
    diagrams = {"generation": model_edges(run.model, batch)}
    if len(run.names) > 1:
        diagrams["inference from all"] = guide_edges(run.guide, batch)
    for name, guide in run.unimodal.items():
        diagrams[f"inference from {name}"] = guide_edges(guide, {name: batch[name]})
    labels = dict(LATENTS)
    labels |= {f"{STYLE}_{name}": rf"$z_\mathrm{{{name}}}$" for name in run.names}
    durations = {f"{name}_log_frames": "log T" for name in run.names}
    yield "model", plate_diagrams(diagrams, {*run.names, *durations}, labels | durations)


def curves(run: SavedRun, seed: int) -> Drawn:
    try:
        figure = curves_figure(read_metrics(run.folder / METRICS))
    except ValueError as error:
        raise RunError(f"{run.folder / METRICS}: {error}") from error
    yield "curves", figure


def inertia(run: SavedRun, seed: int) -> Drawn:
    """From evaluation.json, if it is of these weights."""
    key = "num_classes"
    found = measured_before(run).get(key) or measure(key, run, MeasureSettings())[key]
    for latent, of_modality in found.items():
        used = {_title(latent, name): one for name, one in of_modality.items() if one["number"]}
        if used:
            yield f"inertia-{latent}", inertia_figure(used)


def restyle(run: SavedRun, seed: int) -> Drawn:
    for name in _drawable(run):
        yield from _combined(run, seed, name, name, f"restyle-{name}")


def translate(run: SavedRun, seed: int) -> Drawn:
    for source, target in permutations(_drawable(run), 2):
        yield from _combined(run, seed, source, target, f"translate-{source}-to-{target}")


def _combined(run: SavedRun, seed: int, source: str, target: str, title: str) -> Drawn:
    if STYLE in run.latents():
        shown = grid_arguments(run, seed)
        yield title, translation_grid(run.model, run.unimodal, run.test, source, target, **shown)


def joint(run: SavedRun, seed: int) -> Drawn:
    test = {name: run.test[name] for name in _drawable(run)}
    for source in test:
        grid = joint_latent_grid(run.model, run.unimodal, test, source, **grid_arguments(run, seed))
        yield f"joint-from-{source}", grid


def tsne(run: SavedRun, seed: int) -> Drawn:
    """Of each modality, and pooled with equally many examples of each."""
    rng = np.random.default_rng(seed)
    chosen = {name: rng.permutation(len(of))[:MOST_POINTS] for name, of in run.test.items()}
    labels = {name: run.test[name].labels[index] for name, index in chosen.items()}
    equal = min(map(len, chosen.values()))
    classes, what = run.data.classes, "class"
    if not classes:  # one colour
        classes, what = ("examples",), ""
        labels = {name: np.zeros_like(of) for name, of in labels.items()}
    for latent, of_modality in run.latents().items():
        some = {name: locs[chosen[name]] for name, locs in of_modality.items()}
        # A latent that is not in use may be a single point, which has no map.
        some = {name: locs for name, locs in some.items() if len(np.unique(locs, axis=0)) > 3}
        maps = {_title(latent, name): embed(locs, seed) for name, locs in some.items()}
        if maps:
            of_maps = {_title(latent, name): labels[name] for name in some}
            yield f"tsne-{latent}", scatter_figure(maps, of_maps, classes, what)
        if is_shared(latent) and len(maps) > 1:
            points = embed(np.concatenate([locs[:equal] for locs in some.values()]), seed)
            of_points = np.concatenate([labels[name][:equal] for name in some])
            which = np.repeat(np.arange(len(some)), equal)
            title = LATENTS.get(latent, latent)
            names = list(some)
            pooled = pooled_figure(points, of_points, which, classes, names, what, title)
            if not run.data.classes:
                pooled = scatter_figure({title: points}, {title: which}, names, "modality")
            yield f"tsne-{latent}-pooled", pooled
        for name in some if latent == STYLE else ():
            groups = run.test[name].groups
            of_example = [groups[n] for n in chosen[name] if groups]
            speakers, index = np.unique(of_example, return_inverse=True)
            if 1 < len(speakers) <= MOST_SPEAKERS:
                title = _title(latent, name)
                one = {title: maps[title]}
                figure = scatter_figure(one, {title: index}, speakers.tolist(), "speaker")
                yield f"tsne-{latent}-{name}-by-speaker", figure


FIGURES: dict[str, Callable[[SavedRun, int], Drawn]] = {
    function.__name__: function
    for function in (model, curves, inertia, restyle, translate, joint, tsne)
}


def draw(run: SavedRun, only: list[str], out: Path, formats: list[str], seed: int) -> list[Path]:
    """Draw and save the figures of these names; returns the files."""
    files = []
    with tqdm(only, unit="figure") as bar:
        for name in bar:
            bar.set_description(name)
            for title, figure in FIGURES[name](run, seed):
                files += save_figure(figure, out / title, formats)
    return files


def _title(latent: str, modality: str) -> str:
    return f"{LATENTS.get(latent, latent)} of {modality}"


def _drawable(run: SavedRun) -> list[str]:
    """The modalities that can be drawn; a message on stderr names the others."""
    names = []
    for name, examples in run.test.items():
        try:
            panels(examples.observation(np.arange(1)), examples.normalisation)
        except ValueError as error:
            print(f"{name} is not drawn: {error}", file=sys.stderr)
        else:
            names.append(name)
    return names


def grid_arguments(run: SavedRun, seed: int) -> dict[str, Any]:
    axes = {
        name: SequenceAxes(of.hop, of.centre_frequencies) for name, of in run.data.log_mels.items()
    }
    return {"classes": run.data.classes, "axes": axes, "seed": seed, "device": run.device}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help, allow_abbrev=False)
    add = parser.add_argument
    add("run", type=place, help="folder of a finished run")
    add(
        "--only",
        nargs="+",
        choices=FIGURES,
        default=list(FIGURES),
        metavar="NAME",
        help="figures to draw (all)",
    )
    add("--formats", nargs="+", choices=("png", "pdf", "svg"), default=["png", "pdf"])
    add("--out", type=place, metavar="DIR", help="folder of the figures; else RUN/figures")
    add_place(add)
    add_seed(add, "the examples shown")
    add_places(parser)
    return parser


@entry("finished figures are kept")
def main(argv: list[str] | None = None) -> int:
    options = make_parser().parse_args(argv)
    run = open_run(options.run, options.data, options.device, places_of(options))
    out = options.out or folder_within(options.run, FOLDER)
    files = draw(run, options.only, out, options.formats, options.seed)
    nothing = "nothing to draw: this model has no such latents, or none that is in use"
    print("\n".join(map(str, files)) or nothing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
