"""Score a finished run, beyond the paper's purities, into its evaluation.json.

    python experiments/evaluate.py runs/my-run
    python experiments/evaluate.py runs/my-run --only coherence style_swap

Measures are of the test partition (of a run with --hold-out, of what was held out), num_classes
is of the training partition, which has more examples; most are by latent and modality:

purity nmi ari hungarian   k-means clusters of the posterior means, against the classes
active_units               dimensions in use; a latent with none has scores that mean nothing
num_classes                the number of clusters, found without labels, of latents that are shared
prior_clusters             the components of a mixture prior as clusters, and how many are in use
probes                     class and speaker, read off each latent by a linear classifier
retrieval                  nearest neighbours of the other modality, in latents that are shared
subsets                    what is inferred from each set of modalities, and generated from that
unseen                     classes that training left out (--unseen-classes)
coherence style_swap       what is generated, judged by classifiers trained on real data
styles                     how well generated examples follow a style, and how much they vary
recognised                 words that a recogniser, not trained here, hears in generated speech
log_likelihood             joint, marginal, conditional, by importance weighting, nats per example

Labels score here; nothing of the model is trained on them. What was measured before, of the same
weights with the same options, code and device, is kept; the file is written after each measure.
Exit codes: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import hashlib
from contextlib import nullcontext
from typing import Any

import torch
from pydantic_core import from_json
from tqdm import tqdm

from pvae_pyro.experiments.support.arguments import (
    MOST_EXAMPLES,
    MOST_STEPS,
    Help,
    add_place,
    number,
    place,
)
from pvae_pyro.experiments.support.command import RunError, entry
from pvae_pyro.experiments.support.data import add_places, places_of
from pvae_pyro.experiments.support.measures import CLUSTERING, KEYS, MEASURES, OPTIONS
from pvae_pyro.experiments.support.results import Evaluation
from pvae_pyro.experiments.support.saved_run import SavedRun, open_run
from pvae_pyro.io.files import folder_held
from pvae_pyro.io.provenance import environment, write_json
from pvae_pyro.training.loop import CHECKPOINT

EVALUATION = "evaluation.json"
FORMAT = 3  # of what it holds: one more than before where a measure has changed


def evaluate(run: SavedRun, options: argparse.Namespace) -> dict[str, Any]:
    """Measure what is asked for and not there yet; returns what evaluation.json holds."""
    path = run.folder / EVALUATION
    measured_on = {
        "options": {name: getattr(options, name) for name in OPTIONS},
        "device": run.device,
        **environment(),
    }
    content: dict[str, Any] = {}
    if not options.again:
        earlier = measured_before(run)
        if all(earlier.get(name) == value for name, value in measured_on.items()):
            content = earlier
    content |= {
        "corpus": run.data.corpus,
        "stand_in": run.data.stand_in,
        "classes": list(run.data.classes),
        "model": run.config.model,
        "seed": run.config.seed,
        "config": run.config.model_dump(mode="json"),
        "format": FORMAT,
        "checkpoint": _of_weights(run),
        **measured_on,
    }
    wanted = [name for name, keys in KEYS.items() if set(keys) & set(options.only)]
    missing = [name for name in wanted if not content.keys() >= set(KEYS[name])]
    with tqdm(missing, unit="measure") as bar:
        for name in bar:
            bar.set_description(name)
            found = MEASURES[name](run, options)
            content |= found if len(KEYS[name]) > 1 else {name: found}
            write_json(path, content)
    return content


def measured_before(run: SavedRun) -> dict[str, Any]:
    """What evaluation.json holds if it is of these weights, and measured as today; else nothing.

    Raises RunError where it is damaged.
    """
    path = run.folder / EVALUATION
    try:
        content = from_json(path.read_bytes(), allow_inf_nan=False)
        kept = content.get("format"), content.get("checkpoint")
        if kept != (FORMAT, _of_weights(run)):
            return {}
        Evaluation.model_validate(content)
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise RunError(
            f"{path} is damaged ({error}); evaluate.py --again makes it again"
        ) from error
    return content


def _of_weights(run: SavedRun) -> str:
    """SHA-256 of a run's checkpoint."""
    return hashlib.sha256((run.folder / CHECKPOINT).read_bytes()).hexdigest()


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=Help,
        allow_abbrev=False,
    )
    every = [key for keys in KEYS.values() for key in keys]
    natural = number(int, above=0, most=MOST_EXAMPLES)
    add = parser.add_argument
    add("run", type=place, help="folder of a finished run")
    add("--only", nargs="+", choices=every, default=every, metavar="KEY", help="these keys (all)")
    add_place(add)
    add("--again", action="store_true", help="measure anew what is there already")
    add("--limit", type=natural, default=1000, metavar="N", help="examples to generate (1000)")
    add(
        "--judge-steps",
        type=number(int, above=0, most=MOST_STEPS),
        default=1000,
        metavar="N",
        help="training of a judge (1000)",
    )
    add(
        "--num-samples",
        type=number(int, above=0, most=100_000),
        default=50,
        metavar="K",
        help="importance weights (50)",
    )
    add(
        "--likelihood-examples",
        type=natural,
        default=320,
        metavar="N",
        help="test pairs whose likelihood is estimated, in batches of 32 (320)",
    )
    add_places(parser)
    return parser


@entry(f"what was measured is in the run's {EVALUATION}")
def main(argv: list[str] | None = None) -> int:
    options = make_parser().parse_args(argv)
    # Of a folder that is not there `open_run` tells.
    alone = folder_held(options.run) if options.run.is_dir() else nullcontext()
    with alone, torch.no_grad():
        run = open_run(options.run, options.data, options.device, places_of(options))
        content = evaluate(run, options)
    print(summary(content))
    print(f"all of it: {options.run / EVALUATION}")
    return 0


def summary(content: dict[str, Any]) -> str:
    """The main figures, a line each."""
    lines = [f"{'STAND-IN: ' if content['stand_in'] else ''}{content['corpus']}", ""]
    for latent, of_modality in content.get("purity", {}).items():
        for name in of_modality:
            line = f"{latent:8}{name:8}" + "".join(
                f" {score} {content[score][latent][name]:.3f}" for score in CLUSTERING[:4]
            )
            line += f" active {content['active_units'][latent][name]}"
            if found := content.get("num_classes", {}).get(latent, {}).get(name):
                line += f" | classes found {_num_classes(found)}"
            lines.append(line)
    if "reason" not in (mixtures := content.get("prior_clusters", {})):
        for latent, of_modality in mixtures.items():
            for name, found in of_modality.items():
                scores = " ".join(f"{score} {found[score]:.3f}" for score in CLUSTERING[:4])
                lines.append(
                    f"{latent:8}{name:8} by the prior's {found['in_use']} components in use "
                    f"of {found['components']}: {scores} (k-means with as many: "
                    f"purity {found['kmeans']['purity']:.3f})"
                )
    for latent, of_modality in content.get("probes", {}).items():
        for name, probe in of_modality.items():
            for what, score in probe.items():
                if score["accuracy"] is not None:
                    lines.append(
                        f"{latent:8}{name:8} linear probe of {what.replace('_', ' ')} "
                        f"{score['accuracy']:.3f} "
                        f"(chance {score['chance']:.3f})"
                    )
    for latent, pairs in content.get("retrieval", {}).items():
        for pair, score in pairs.items():
            lines.append(f"{latent:8}{pair} R@1 {score['recall_at_1']:.3f} MRR {score['mrr']:.3f}")
    for what, value in content.get("coherence", {}).items():
        if "->" in what or what in ("judge_accuracy", "reconstruction", "real_style", "prior"):
            lines.append(f"coherence {what}: {_short(value)}")
    for name, value in content.get("style_swap", {}).items():
        lines.append(f"style swap {name}: {_short(value)}")
    for name, value in content.get("styles", {}).get("kept", {}).items():
        lines += [f"style of {name} kept, {what}: {_short(part)}" for what, part in value.items()]
    for pair, value in content.get("styles", {}).get("diversity", {}).items():
        lines.append(f"diversity of {pair}, of reality's: {_short(value)}")
    for some, ways in content.get("subsets", {}).items():
        if some != "reason":
            lines += [f"from {some} by {way}: {_short(found)}" for way, found in ways.items()]
    for latent, of in content.get("unseen", {}).items():
        if latent != "reason":
            lines += [f"unseen classes in {latent}, {name}: {_short(x)}" for name, x in of.items()]
    if heard := content.get("recognised"):
        lines.append(f"heard by a recogniser: {_short(heard)}")
    for what in ("joint", "marginal", "conditional"):
        if value := content.get("log_likelihood", {}).get(what):
            lines.append(f"log-likelihood, {what}: {_short(value)}")
    return "\n".join(lines)


def _num_classes(found: dict[str, Any]) -> str:
    if found["agreed"] is None:
        return f"none: {found['reason']}"
    return f"{found['agreed']} (by {found['agreed_by']} of {_short(found['criteria'])})"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(part)}" for name, part in value.items())
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
