"""What a study keeps of a run, and that as a table."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

# Studies whose rows are of other data or other likelihoods: no nats of theirs compare.
OF_OTHER_DENSITIES = ("likelihoods", "modalities")
IN_NATS = ("elbo", "importance-weighted log-likelihood")
KEPT = ("corpus", "stand_in", "dataset", "model", "seed", "device", "steps", "seconds_training")


def collect(row: str, results: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """A run's figures, for its line in the table, by name; and what they are of.

    results, measured: results.json and evaluation.json.
    """
    figures: dict[str, float] = {}
    for latent, of_modality in results["purity"].items():
        for name, value in of_modality.items():
            figures[f"purity {latent} {name}"] = value
    coherence = measured.get("coherence", {})
    for what, value in coherence.items():
        if "->" in what:
            figures[f"coherence {what}"] = value
    for pair, value in coherence.get("prior", {}).items():
        figures[f"pairs from the prior agree {pair}"] = value
    figures["elbo"] = results["test_terms"]["elbo"]
    if joint := measured.get("log_likelihood", {}).get("joint"):
        figures["importance-weighted log-likelihood"] = joint["mean"]
    figures["seconds a step"] = results["seconds_training"] / results["steps"]
    return {
        "row": row,
        **{name: results[name] for name in KEPT},
        "num_examples": results["num_examples"],
        "figures": figures,
        **{
            key: measured[key]
            for key in ("subsets", "unseen", "prior_clusters")
            if "reason" not in measured.get(key, {"reason": ""})
        },
        "config": results["config"],
        "git_commit": results["git_commit"],
    }


def markdown(study: Mapping[str, Any]) -> str:
    """Rows by figures, mean ± standard deviation over seeds; fractions in %."""
    runs: Sequence[Mapping[str, Any]] = study["runs"]
    first = runs[0]
    seeds = sorted({run["seed"] for run in runs})
    columns = list(dict.fromkeys(name for run in runs for name in run["figures"]))
    if study["study"] in OF_OTHER_DENSITIES:
        columns = [name for name in columns if name not in IN_NATS]
    rows = list(dict.fromkeys(run["row"] for run in runs))
    lines = [
        f"# {study['study']}",
        "",
        *_corpora(runs),
        "",
        f"{first['config']['preset']} preset, {_span([run['steps'] for run in runs])} steps of "
        f"{first['config']['batch_size']}, objective {first['config']['objective']}; "
        f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}; fractions in %, elbo and "
        "log-likelihood in nats"
        + ", and left out, being of different things" * (study["study"] in OF_OTHER_DENSITIES)
        + ".",
        "",
        f"| | {' | '.join(rows)} |",
        "|---" * (1 + len(rows)) + "|",
    ]
    for column in columns:
        cells = []
        for row in rows:
            values = [
                run["figures"][column]
                for run in runs
                if run["row"] == row and column in run["figures"]
            ]
            cells.append(_cell(values, column))
        lines.append(f"| {column} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _corpora(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the runs are of: one line, or one for each row."""
    of = {run["row"]: f"{'STAND-IN: ' if run['stand_in'] else ''}{run['corpus']}" for run in runs}
    if len(set(of.values())) == 1:
        return [next(iter(of.values()))]
    return [f"* {row}: {corpus}" for row, corpus in of.items()]


def _cell(values: Sequence[float], column: str) -> str:
    if not values:
        return "–"
    percent = column.startswith(("purity", "coherence", "pairs"))
    scale, digits = (100, 1) if percent else (1, 3 if column.startswith("seconds") else 1)
    spread = f" ± {scale * stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{scale * mean(values):.{digits}f}{spread}"


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"
