"""Criticise a finished run with ArviZ: does the model predict the data, does the guide fit it?

    python experiments/criticise.py runs/my-run

Two files in the run's folder describe the first pairs of its test partition that have all
modalities (docs/criticism.md):

inference_data.nc   draws from posterior and prior, predictions, log-likelihoods
criticism.json      predictive checks; importance-weighted log-likelihoods of each example, and
                    Pareto k, which says how far these can be trusted

Exit codes: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: use the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pvae_pyro.evaluate.importance import estimate, weights_by_target
from pvae_pyro.evaluate.likelihood import mean_and_se, why_unreliable
from pvae_pyro.evaluate.pareto import GOOD_K, pareto_k, reliable_k
from pvae_pyro.evaluate.predictive_checks import predictive_check
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
from pvae_pyro.experiments.support.saved_run import SavedRun, open_run
from pvae_pyro.inference_data import inference_data, write_netcdf
from pvae_pyro.io.provenance import environment, write_json

CRITICISM = "criticism.json"
INFERENCE_DATA = "inference_data.nc"
FORMAT = 2  # of CRITICISM
OPTIONS = ("limit", "num_samples", "likelihood_examples", "importance_samples", "seed")


def criticise(run: SavedRun, options: argparse.Namespace) -> dict[str, Any]:
    """Write both files of a run; returns the content of criticism.json.

    Raises RunError if a likelihood is not finite, or if no known pair has all modalities.
    """
    try:
        batches = run.test_batches(options.likelihood_examples)
    except ValueError as error:
        raise RunError(f"{run.folder}: {error}") from error
    data = draws_and_predictions(run, options)
    write_netcdf(data, run.folder / INFERENCE_DATA)
    samples = {"num_samples": options.importance_samples, "seed": options.seed}
    weights = weights_by_target(run.model, run.guide, batches, **samples)
    try:
        importance = {target: importance_summary(some) for target, some in weights.items()}
    except FloatingPointError as error:
        raise RunError(f"{run.folder}: {error}") from error
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
        "importance": importance,
        "reliable_k": reliable_k(options.importance_samples),
    }
    write_json(run.folder / CRITICISM, content)
    return content


def draws_and_predictions(run: SavedRun, options: argparse.Namespace) -> Any:
    """ArviZ's object of the first pairs of the test partition; frames in seconds, bins in Hz."""
    loader = run.data.loader(
        "test", options.limit, complete=True, device=run.device, names=run.names
    )
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


def importance_summary(log_weights: Tensor) -> dict[str, Any]:
    """What ``[K, N]`` log weights say; the median k is None if it is infinite, as JSON has no
    infinity. log_likelihoods: of each example in its order, to compare runs pair by pair.
    reason: why these are only bounds (`why_unreliable`); None if they are estimates.

    Raises FloatingPointError if a likelihood is not finite.
    """
    estimates, k = estimate(log_weights), pareto_k(log_weights)
    mean = mean_and_se(estimates.log_likelihood)
    median = float(np.median(k))
    return {
        "num_examples": len(k),
        "log_likelihood": mean["mean"],
        "se": mean["se"],
        "reason": why_unreliable(estimates.effective_sample_size, k, len(log_weights)),
        "effective_sample_size": estimates.effective_sample_size.mean().item(),
        "pareto_k_median": median if np.isfinite(median) else None,
        "pareto_k_above": float((k > GOOD_K).mean()),
        "pareto_k_infinite": int(np.isinf(k).sum()),
        "log_likelihoods": estimates.log_likelihood.tolist(),
    }


def summary(content: dict[str, Any]) -> str:
    """A line for each target of importance weighting, and each predictive check."""
    lines = []
    for target, of in content["importance"].items():
        se = "" if of["se"] is None else f" ± {of['se']:.2f}"
        bound = "" if of["reason"] is None else " is not reliable; its bound is"
        above = f"Pareto k is above {GOOD_K} for {100 * of['pareto_k_above']:.0f} % of the examples"
        lines.append(
            f"log p({target}){bound} {of['log_likelihood']:.2f}{se} nats; {of['reason'] or above}"
        )
    for name, checks in content["predictive_check"].items():
        for what, groups in checks.items():
            p = ", ".join(f"{group.split('_')[0]} p {of['p']:.2f}" for group, of in groups.items())
            lines.append(f"{what} of {name}: {p}")
    return "\n".join(lines)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help, allow_abbrev=False)
    natural = number(int, above=0, most=MOST_EXAMPLES)
    draws = number(int, above=0, most=100_000)
    likelihood = "test pairs whose likelihood is estimated, in batches of 32 (160)"
    add = parser.add_argument
    add("run", type=place, help="folder of a finished run")
    add_place(add)
    add_seed(add, "all draws")
    add("--limit", type=natural, default=64, metavar="N", help="pairs in inference_data.nc (64)")
    add("--num-samples", type=draws, default=25, metavar="K", help="draws for each pair (25)")
    add("--likelihood-examples", type=natural, default=160, metavar="N", help=likelihood)
    add(
        "--importance-samples",
        type=draws,
        default=200,
        metavar="K",
        help="importance weights (200)",
    )
    add_places(parser)
    return parser


@entry(f"{CRITICISM} is not written")
def main(argv: list[str] | None = None) -> int:
    options = make_parser().parse_args(argv)
    run = open_run(options.run, options.data, options.device, places_of(options))
    with torch.no_grad():
        content = criticise(run, options)
    print(summary(content))
    print(f"all of it: {run.folder / CRITICISM}, {run.folder / INFERENCE_DATA}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
