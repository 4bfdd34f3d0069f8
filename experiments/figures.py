"""Draw the paper's figures of a finished run, as PNG and PDF, into its folder figures/.

    python experiments/figures.py runs/my-run
    python experiments/figures.py runs/my-run --only restyle translate --formats png

model          the graphical models, read off the Pyro programs themselves (Fig. 1)
curves         every term of the objective, by step
inertia        k-means inertia and the number of clusters found (Fig. 3)
restyle        one example's content in another's style (Figs. 4, 16-18)
translate      content of one modality in the other, in the style of a reference (Figs. 5, 19-22)
joint          both modalities from what was inferred of one (Fig. 2)
tsne           maps of every latent (Figs. 11-15)

Of models without style latents there is neither restyle nor translate. Labels choose what to show,
and colour it. Exit codes: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Callable, Iterator
from itertools import permutations

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from pvae_pyro.experiments.evaluate import measured_before
from pvae_pyro.experiments.support.arguments import Help, add_place, add_seed, place
from pvae_pyro.experiments.support.command import RunError, entry
from pvae_pyro.experiments.support.data import add_places, places_of
from pvae_pyro.experiments.support.measures import num_classes as find_all
from pvae_pyro.experiments.support.results import STYLE
from pvae_pyro.experiments.support.saved_run import SavedRun, folder_within, open_run
from pvae_pyro.figures.curves import curves_figure, read_metrics
from pvae_pyro.figures.embeddings import choose, embed, pooled_figure, scatter_figure
from pvae_pyro.figures.grids import joint_latent_grid, translation_grid
from pvae_pyro.figures.inertia import inertia_figure
from pvae_pyro.figures.observations import SequenceAxes, panels
from pvae_pyro.figures.plate_diagram import guide_graph, model_graph, plate_diagrams
from pvae_pyro.figures.style import save_figure
from pvae_pyro.training.records import METRICS

FOLDER = "figures"  # of a run
NAMES = {"z_sem": r"$z_\mathrm{sem}$", "z": "$z$", STYLE: r"$z_\mathrm{style}$"}  # of latents
Drawn = Iterator[tuple[str, Figure]]


def model(run: SavedRun, seed: int) -> Drawn:
    """Generation, and inference from everything and from each modality (paper, Fig. 1)."""
    batch = {name: examples.observation(np.arange(2)) for name, examples in run.test.items()}
    try:
        graphs = {"generation": model_graph(run.model, batch)}
        if len(run.names) > 1:
            graphs["inference from all"] = guide_graph(run.guide, batch)
        for name, guide in run.unimodal.items():
            graphs[f"inference from {name}"] = guide_graph(guide, {name: batch[name]})
    except ValueError as error:  # of a modality of a user's own, as with plates of its own
        print(f"the model is not drawn: {error}", file=sys.stderr)
        return
    labels = dict(NAMES)
    labels |= {f"{STYLE}_{name}": rf"$z_\mathrm{{{name}}}$" for name in run.names}
    labels |= {f"{name}_log_frames": "log T" for name in run.names}
    yield "model", plate_diagrams(graphs, labels)


def curves(run: SavedRun, seed: int) -> Drawn:
    try:
        figure = curves_figure(read_metrics(run.folder / METRICS))
    except ValueError as error:
        raise RunError(f"{run.folder / METRICS}: {error}") from error
    yield "curves", figure


def inertia(run: SavedRun, seed: int) -> Drawn:
    """Of what evaluate.py found, where it was run on these weights."""
    found = measured_before(run).get("num_classes") or find_all(run, argparse.Namespace())
    for latent, of_modality in found.items():
        if curves := {
            _title(latent, name): one for name, one in of_modality.items() if one["agreed"]
        }:
            yield f"inertia-{latent}", inertia_figure(curves)


def _drawn(run: SavedRun) -> list[str]:
    """The modalities that can be drawn; the others are told."""
    names = []
    for name, examples in run.test.items():
        try:
            panels(examples.observation(np.arange(1)), examples.normalisation)
        except ValueError as error:
            print(f"{name} is not drawn: {error}", file=sys.stderr)
        else:
            names.append(name)
    return names


def restyle(run: SavedRun, seed: int) -> Drawn:
    for name in _drawn(run):
        yield from _combined(run, seed, name, name, f"restyle-{name}")


def translate(run: SavedRun, seed: int) -> Drawn:
    for source, target in permutations(_drawn(run), 2):
        yield from _combined(run, seed, source, target, f"translate-{source}-to-{target}")


def _combined(run: SavedRun, seed: int, source: str, target: str, title: str) -> Drawn:
    if STYLE in run.latents():
        unimodal = run.unimodal
        shown = _shown(run, seed)
        yield title, translation_grid(run.model, unimodal, run.test, source, target, **shown)


def joint(run: SavedRun, seed: int) -> Drawn:
    test = {name: run.test[name] for name in _drawn(run)}
    for source in test:
        yield (
            f"joint-from-{source}",
            joint_latent_grid(run.model, run.unimodal, test, source, **_shown(run, seed)),
        )


def tsne(run: SavedRun, seed: int) -> Drawn:
    """Of each modality; pooled, with as many of each, so that none covers the others."""
    classes = run.data.classes
    chosen = {name: choose(len(run.test[name]), seed=seed) for name in run.names}
    labels = {name: run.test[name].labels[index] for name, index in chosen.items()}
    equal = min(map(len, chosen.values()))
    for latent, of_modality in run.latents().items():
        some = {name: locs[chosen[name]] for name, locs in of_modality.items()}
        # A latent that is not in use may be a single point, of which there is no map.
        some = {name: locs for name, locs in some.items() if len(np.unique(locs, axis=0)) > 3}
        maps = {name: embed(locs, seed) for name, locs in some.items()}
        if maps:
            titles = {name: _title(latent, name) for name in maps}
            yield (
                f"tsne-{latent}",
                scatter_figure(
                    {titles[name]: points for name, points in maps.items()},
                    {titles[name]: labels[name] for name in maps},
                    classes,
                    "class",
                ),
            )
        if latent == STYLE:
            yield from _by_speaker(run, maps, chosen)
        elif len(maps) > 1:
            yield (
                f"tsne-{latent}-pooled",
                pooled_figure(
                    embed(np.concatenate([locs[:equal] for locs in some.values()]), seed),
                    np.concatenate([labels[name][:equal] for name in some]),
                    np.repeat(np.arange(len(some)), equal),
                    classes,
                    list(some),
                    "class",
                    NAMES.get(latent, latent),
                ),
            )


def _by_speaker(run: SavedRun, maps: dict[str, np.ndarray], chosen: dict[str, np.ndarray]) -> Drawn:
    for name, points in maps.items():
        groups = run.test[name].groups
        of_group, index = np.unique(
            [groups[n] for n in chosen[name] if groups], return_inverse=True
        )
        if 1 < len(of_group) <= 20:  # more colours cannot be told apart
            yield (
                f"tsne-{STYLE}-{name}-by-speaker",
                scatter_figure(
                    {_title(STYLE, name): points},
                    {_title(STYLE, name): index},
                    of_group.tolist(),
                    "speaker",
                ),
            )


def _title(latent: str, modality: str) -> str:
    return f"{NAMES.get(latent, latent)} of {modality}"


FIGURES: dict[str, Callable[[SavedRun, int], Drawn]] = {
    function.__name__: function
    for function in (model, curves, inertia, restyle, translate, joint, tsne)
}


def draw(run: SavedRun, only: list[str], out: Path, formats: list[str], seed: int) -> list[Path]:
    """Draw and save; returns the files."""
    files = []
    with tqdm(only, unit="figure") as bar:
        for name in bar:
            bar.set_description(name)
            for title, figure in FIGURES[name](run, seed):
                files += save_figure(figure, out / title, formats)
    return files


def _shown(run: SavedRun, seed: int) -> dict:
    axes = {
        name: SequenceAxes(of.hop, of.centre_frequencies) for name, of in run.data.log_mels.items()
    }
    return {"classes": run.data.classes, "axes": axes, "seed": seed, "device": run.device}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=Help,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", type=place, help="folder of a finished run")
    add("--only", nargs="+", choices=FIGURES, default=list(FIGURES), metavar="NAME", help="(all)")
    add("--formats", nargs="+", choices=("png", "pdf", "svg"), default=["png", "pdf"])
    add("--out", type=place, metavar="DIR", help="else RUN/figures")
    add_place(add)
    add_seed(add, "the examples shown")
    add_places(parser)
    return parser


@entry("what was drawn is kept")
def main(argv: list[str] | None = None) -> int:
    options = make_parser().parse_args(argv)
    run = open_run(options.run, options.data, options.device, places_of(options))
    out = options.out or folder_within(options.run, FOLDER)
    files = draw(run, options.only, out, options.formats, options.seed)
    print(
        "\n".join(map(str, files))
        or "nothing to draw: no such latents in this model, or none that is in use"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
