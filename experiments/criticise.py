"""Criticise finished runs with ArviZ: does the model predict the data, does the guide fit it?

    python experiments/criticise.py runs/my-run
    python experiments/criticise.py runs/my-run runs/another

Each run's folder gets, of the first pairs of its test partition (docs/criticism.md):

inference_data.nc                 draws from posterior and prior, predictions, log-likelihoods
figures/criticism-predictive.png  statistics of the test data against predicted ones
figures/criticism-pareto-k.png    how far importance weighting of the guide can be trusted
criticism.json                    the figures' numbers, and importance-weighted log-likelihoods

Of several runs a table compares the likelihoods, example by example; they need the same data.
Exit codes: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.evaluate.likelihood import Estimate, estimate, log_weights
from pvae_pyro.experiments.support.arguments import (
    MOST_EXAMPLES,
    Help,
    add_place,
    add_seed,
    number,
    place,
)
from pvae_pyro.experiments.support.command import RunError, entry
from pvae_pyro.experiments.support.data import add_places, places_of
from pvae_pyro.experiments.support.saved_run import SavedRun, folder_within, open_run
from pvae_pyro.figures.criticism import (
    GOOD_K,
    pareto_k,
    pareto_k_figure,
    predictive_check,
    predictive_figure,
    reliable_k,
)
from pvae_pyro.figures.style import save_figure
from pvae_pyro.inference_data import inference_data, write_netcdf
from pvae_pyro.io.provenance import environment, write_json

CRITICISM = "criticism.json"
INFERENCE_DATA = "inference_data.nc"
FORMAT = 1  # of what CRITICISM holds
JOINT = "joint"
OPTIONS = ("limit", "num_samples", "likelihood_examples", "importance_samples", "seed")
# Target -> a field of `Estimate`, or "pareto_k" -> the value of each example.
Weighed = dict[str, dict[str, np.ndarray]]


def criticise(run: SavedRun, options: argparse.Namespace) -> Weighed:
    """Write all that is written of a run; returns what is compared.

    Raises RunError where its folder of figures is a link, or a likelihood is not finite.
    """
    figures = folder_within(run.folder, "figures")
    data = of_run(run, options)
    write_netcdf(data, run.folder / INFERENCE_DATA)
    weighed = weigh(run, options)
    k = {target: values["pareto_k"] for target, values in weighed.items()}
    for title, figure in (
        ("predictive", predictive_figure(data, run.names)),
        ("pareto-k", pareto_k_figure(k, options.importance_samples)),
    ):
        save_figure(figure, figures / f"criticism-{title}", ["png"])
    content = {
        "format": FORMAT,
        "corpus": run.data.corpus,
        "stand_in": run.data.stand_in,
        "model": run.config.model,
        "config": run.config.model_dump(mode="json"),
        "options": {name: getattr(options, name) for name in OPTIONS},
        "device": run.device,
        **environment(),
        "predictive_check": predictive_check(data, run.names),
        "importance": {target: _summary(values) for target, values in weighed.items()},
        "reliable_k": reliable_k(options.importance_samples),
    }
    write_json(run.folder / CRITICISM, content)
    return weighed


def of_run(run: SavedRun, options: argparse.Namespace) -> Any:
    """ArviZ's object of the first pairs of the test partition; frames in seconds, bins in Hz."""
    loader = PairedLoader(run.data.test, options.limit, device=run.device, names=run.names)
    batch = next(loader.epoch(0))
    coords: dict[str, Any] = {}
    for name, log_mel in run.data.log_mels.items():
        if name in run.names:
            longest = max(run.config.max_frames or 0, batch[name].value.shape[1])
            coords[f"{name}_frame"] = np.arange(longest) * log_mel.hop
            coords[f"{name}_bin"] = log_mel.centre_frequencies
    return inference_data(
        run.model,
        run.guide,
        batch,
        num_samples=options.num_samples,
        seed=options.seed,
        coords=coords,
        normalisations={name: examples.normalisation for name, examples in run.test.items()},
    )


def weigh(run: SavedRun, options: argparse.Namespace) -> Weighed:
    """Importance weighting as `evaluate_likelihood` does it, example by example.

    The targets are all modalities together, where there are several, and each alone. Raises
    RunError where a likelihood is not finite.
    """
    targets: dict[str, tuple[list[nn.Module], tuple[str, ...]]] = {
        name: ([run.guide, run.unimodal[name]], (name,)) for name in run.names
    }
    if len(run.names) > 1:
        targets = {JOINT: ([run.guide], run.names), **targets}
    else:  # of one modality alone, its guide is the guide
        targets = {name: ([run.guide], run.names) for name in run.names}
    loader = PairedLoader(run.data.test, 32, device=run.device, names=run.names)
    batches = list(islice(loader.epoch(0), -(-options.likelihood_examples // 32)))
    seeds = np.random.default_rng(options.seed)
    found: dict[str, list[np.ndarray]] = {target: [] for target in targets}
    for batch in tqdm(batches, unit="batch", desc=run.folder.name):
        seed = int(seeds.integers(2**63))
        for target, (guides, names) in targets.items():
            of_guide = -(-options.importance_samples // len(guides))
            drawn = {"num_samples": of_guide, "seed": seed}
            weights = log_weights(run.model, guides, batch, names, **drawn).double()
            if not weights.isfinite().all():
                raise RunError(f"{run.folder}: a likelihood of {target} is not finite")
            of = torch.stack([*estimate(weights)]).numpy(force=True)
            found[target].append(np.vstack([of, pareto_k(weights)]))
    keys = (*Estimate._fields, "pareto_k")
    return {
        target: dict(zip(keys, np.concatenate(parts, 1), strict=True))
        for target, parts in found.items()
    }


def _summary(values: dict[str, np.ndarray]) -> dict[str, Any]:
    """JSON has no infinity: the median k is None where it is one."""
    k = values["pareto_k"]
    median = float(np.median(k))
    return {
        "num_examples": len(k),
        "log_likelihood": float(values["log_likelihood"].mean()),
        "se": standard_error(values["log_likelihood"]),
        "effective_sample_size": float(values["effective_sample_size"].mean()),
        "pareto_k_median": median if np.isfinite(median) else None,
        "pareto_k_above": float((k > GOOD_K).mean()),
        "pareto_k_infinite": int(np.isinf(k).sum()),
    }


def standard_error(values: np.ndarray) -> float | None:
    """Of the mean of ``[N]``; None of a single value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def compare(weighed: dict[Path, Weighed]) -> str:
    """A table of the targets that all runs have; a line a run, the best first.

    Differences are from the best, of the same examples: their standard error is that of a mean of
    paired differences, and does not hold how hard the examples are.
    """
    runs = list(weighed)
    common = [t for t in weighed[runs[0]] if all(t in targets for targets in weighed.values())]
    lines = [
        f"{'target':10}{'log-likelihood':>16}{'se':>8}{'difference':>12}{'se':>8}"
        f"{'k > ' + str(GOOD_K):>9}  run"
    ]
    for target in common:
        of = {run: weighed[run][target] for run in runs}
        ordered = sorted(runs, key=lambda run: -of[run]["log_likelihood"].mean())
        best = of[ordered[0]]["log_likelihood"]
        for run in ordered:
            values, summary = of[run]["log_likelihood"], _summary(of[run])
            difference = values - best
            lines.append(
                f"{target:10}{summary['log_likelihood']:16.2f}{_number(summary['se']):>8}"
                f"{difference.mean():12.2f}{_number(standard_error(difference)):>8}"
                f"{100 * summary['pareto_k_above']:7.0f} %  {run}"
            )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def check_comparable(runs: list[SavedRun]) -> None:
    """Raises RunError where densities are of different things."""
    first = runs[0]
    for other in runs[1:]:
        if other.data.digest() != first.data.digest():
            raise RunError(f"{other.folder} was scored on other data than {first.folder}")
        if bool(other.config.duration_scale) != bool(first.config.duration_scale):
            raise RunError(
                f"of {other.folder} and {first.folder} one has durations in its likelihood "
                "(--duration-scale), the other has not"
            )
        both = [run for run in (first, other) if "image" in run.names]
        if len({run.config.image_likelihood == "bernoulli" for run in both}) > 1:
            raise RunError(
                f"of {other.folder} and {first.folder} one has probabilities of pixels in its "
                "likelihood (--image-likelihood bernoulli), the other densities"
            )
        if not {*other.names} & {*first.names}:
            raise RunError(f"{other.folder} and {first.folder} have no modality in common")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=Help,
        allow_abbrev=False,
    )
    natural = number(int, above=0, most=MOST_EXAMPLES)
    draws = number(int, above=0, most=100_000)
    add = parser.add_argument
    add("runs", type=place, nargs="+", metavar="RUN", help="folders of finished runs")
    add_place(add)
    add_seed(add, "all draws")
    add("--limit", type=natural, default=64, metavar="N", help="pairs in inference_data.nc (64)")
    add("--num-samples", type=draws, default=25, metavar="K", help="draws of each (25)")
    add(
        "--likelihood-examples",
        type=natural,
        default=160,
        metavar="N",
        help="test pairs whose likelihood is estimated, in batches of 32 (160)",
    )
    add("--importance-samples", type=draws, default=200, metavar="K", help="its weights (200)")
    add_places(parser)
    return parser


@entry(f"what has its {CRITICISM} is finished")
def main(argv: list[str] | None = None) -> int:
    options = make_parser().parse_args(argv)
    runs = [
        open_run(folder, options.data, options.device, places_of(options))
        for folder in options.runs
    ]
    check_comparable(runs)
    with torch.no_grad():
        weighed = {run.folder: criticise(run, options) for run in runs}
    print(compare(weighed))
    for folder in weighed:
        print(f"all of it: {folder / CRITICISM}, {folder / INFERENCE_DATA}, {folder / 'figures'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
