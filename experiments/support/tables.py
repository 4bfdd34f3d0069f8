"""What the runs of a study found, as JSON and as Markdown."""

import re
from collections.abc import Collection, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from pvae_pyro.errors import shown
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.config import MAY_CHANGE, OBJECTIVES, PLACES, Config
from pvae_pyro.experiments.support.paper_table import TABLE_1, scored_part
from pvae_pyro.experiments.support.results import STYLE, Evaluation, Results

TITLES = {
    "vae-speech": "VAE-sp",
    "vae-image": "VAE-im",
    "jmvae": "JMVAE-kl",
    "pvae-b0": "PVAE (no contrastive)",
    "pvae": "PVAE",
    "pvae-ours": "PVAE, our objective",
}
# What the runs of Table 1 may differ in.
MAY_DIFFER = {"model", *OBJECTIVES["ours"], "objective", "seed", "threads", *PLACES, *MAY_CHANGE}
MAY_DIFFER.remove("epochs")
# Studies whose rows have other data or other likelihoods, so that nats cannot be compared.
OF_OTHER_DENSITIES = ("likelihoods", "modalities")
IN_NATS = ("elbo", "importance-weighted log-likelihood")
MEASURED = ("subsets", "unseen", "prior_clusters")  # kept of evaluation.json


def aggregate(finished: Sequence[tuple[str, Results]]) -> dict[str, Any]:
    """Mean and standard deviation of each purity over the seeds: what table1.json holds.

    finished: (row, results) of every run.

    Purities are in [0, 1]; the standard deviation of a single seed is None; ``config`` holds the
    options that all runs share. Raises RunError where the runs have not the same data and budget.
    """
    all_results = [results for _, results in finished]
    for name in sorted(Config.model_fields.keys() - MAY_DIFFER):
        if len(values := {str(getattr(results.config, name)) for results in all_results}) > 1:
            raise RunError(f"the runs of one table differ in {name}: {', '.join(sorted(values))}")
    groups: dict[tuple[str, str], list[Results]] = {}
    for row, results in finished:
        for latent in results.purity:
            groups.setdefault((row, latent), []).append(results)
    rows = []
    # As in the paper: latents that should hold the class come before those that should not.
    order = [*(row for row, _ in finished if row not in TITLES), *TITLES]
    for row, latent in sorted(groups, key=lambda key: (key[1] == STYLE, order.index(key[0]))):
        runs = groups[row, latent]
        entry: dict[str, Any] = {"model": row, "latent": latent, "num_runs": len(runs)}
        for name in runs[0].purity[latent]:
            entry[name] = {
                **_spread([run.purity[latent][name] for run in runs]),
                "active_units": [int(run.active_units[latent][name]) for run in runs],
            }
        rows.append(entry)
    last = all_results[-1]  # a manifest may have moved
    return {
        **{name: getattr(last, name) for name in ("dataset", "corpus", "stand_in", "preset")},
        "seeds": sorted({results.seed for results in all_results}),
        "config": last.config.model_dump(mode="json", exclude=MAY_DIFFER),
        "scored_on": scored_part(last.config),
        "steps": sorted({results.steps for results in all_results}),
        "batch_size": sorted({results.config.batch_size for results in all_results}),
        "commits": sorted({str(results.git_commit) for results in all_results}),
        "rows": rows,
    }


def markdown(table: Mapping[str, Any]) -> str:
    """Table 1, with the paper's purities on the same corpus, or else on TIDIGITS, in brackets."""
    corpus = table["dataset"] if table["dataset"] in TABLE_1 else "tidigit"
    rows = sorted(table["rows"], key=len, reverse=True)  # those of all modalities have their order
    names = dict.fromkeys(name for row in rows for name in row if isinstance(row[name], dict))
    clusters = table["config"]["num_clusters"] or "as many as classes"
    lines = [
        f"# Table 1 on {'STAND-IN: ' * table['stand_in']}{_text(table['corpus'])}",
        "",
        f"Purity in % of k-means clusters, {clusters}, of the unimodal guides' posterior means on "
        f"the {table['scored_on']}; mean ± standard deviation over seeds; in brackets the paper's "
        f"purity on {corpus.upper()}. {_list(table['steps'])} steps of "
        f"{_list(table['batch_size'])}; preset {table['preset']}; {_seeds(table['seeds'])}.",
        "",
    ]
    if table["stand_in"]:
        lines += ["A stand-in's figures are not comparable with the paper's.", ""]
    elif corpus != table["dataset"]:
        lines += ["The paper's figures are of another corpus.", ""]
    lines += _head(["model", "latent", *names])
    for row in table["rows"]:
        known = TABLE_1[corpus].get((row["model"], row["latent"]), {})
        cells = [_purity(row[name], known.get(name)) if name in row else "–" for name in names]
        title = TITLES.get(row["model"], row["model"].replace("vae", "VAE"))
        lines.append(f"| {title} | {row['latent']} | {' | '.join(cells)} |")
    if any("*" in line for line in lines if line.startswith("| ")):
        lines += ["", "\\* not in use (no active units) in some run: its purity means nothing."]
    return "\n".join(lines) + "\n"


def collect(row: str, results: Results, evaluation: Evaluation) -> dict[str, Any]:
    """A run's results and evaluation; ``figures`` are its column in the table: name -> number."""
    purities = {
        f"purity {latent} {name}": value
        for latent, of_names in results.purity.items()
        for name, value in of_names.items()
    }
    coherence = evaluation.coherence
    others = {
        "elbo": results.test_terms.get("elbo"),
        "importance-weighted log-likelihood": evaluation.log_likelihood.get("joint", {}).get(
            "mean"
        ),
        "seconds a step": results.seconds_training / max(results.steps, 1),
    }
    measured = evaluation.model_extra or {}
    return {
        "row": row,
        **results.model_dump(mode="json"),
        "figures": {
            **purities,
            **{f"coherence {what}": value for what, value in coherence.items() if "->" in what},
            **{f"pairs from the prior agree {p}": v for p, v in coherence.get("prior", {}).items()},
            **{name: value for name, value in others.items() if value is not None},
        },
        **{name: measured[name] for name in MEASURED if name in measured},
    }


def side_by_side(study: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """A column for each row of the study: mean ± standard deviation over its seeds."""
    steps = sorted({run["steps"] for run in runs})
    rows = list(dict.fromkeys(run["row"] for run in runs))
    names = dict.fromkeys(name for run in runs for name in run["figures"])
    units = "elbo and log-likelihood in nats"
    if study in OF_OTHER_DENSITIES:
        names = {name: None for name in names if name not in IN_NATS}
        units = "elbo and log-likelihood are left out, because the rows model different things"
    config = runs[0]["config"]
    lines = [
        f"# {study}",
        "",
        *_corpora(runs),
        "",
        f"{config['preset']} preset, {' to '.join(map(str, steps[:1] + steps[1:][-1:]))} "
        f"steps of {config['batch_size']}, objective {config['objective']}; "
        f"{_seeds({run['seed'] for run in runs})}; fractions in %, {units}.",
        "",
        *_head(["", *rows]),
    ]
    for name in names:
        of_rows = [[run["figures"].get(name) for run in runs if run["row"] == row] for row in rows]
        cells = [_figure(name, [v for v in values if v is not None]) for values in of_rows]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _corpora(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What data the runs are of: one line, or one for each row."""
    of = {run["row"]: f"{'STAND-IN: ' * run['stand_in']}{_text(run['corpus'])}" for run in runs}
    if len({*of.values()}) == 1:
        return [next(iter(of.values()))]
    return [f"* {row}: {corpus}" for row, corpus in of.items()]


def _figure(name: str, values: Sequence[float]) -> str:
    if not values:
        return "–"
    if name.startswith(("purity", "coherence", "pairs")):
        return _shown(**_spread(values), scale=100, digits=1)
    return _shown(**_spread(values), digits=3 if name.startswith("seconds") else 1)


def _purity(entry: Mapping[str, Any], of_paper: float | None) -> str:
    unused = "*" * (min(entry["active_units"]) == 0)
    known = "" if of_paper is None else f" ({of_paper:.2f})"
    return _shown(entry["mean"], entry["sd"], scale=100, digits=2) + unused + known


def _shown(mean: float, sd: float | None, scale: float = 1, digits: int = 1) -> str:
    spread = "" if sd is None else f" ± {scale * sd:.{digits}f}"
    return f"{scale * mean:.{digits}f}{spread}"


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": mean(values), "sd": stdev(values) if len(values) > 1 else None}


def _head(titles: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]


def _seeds(seeds: Collection[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {_list(sorted(seeds))}"


def _list(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))


def _text(text: str) -> str:
    """Text of others' choosing, such as a file's name: no markup, no HTML, no formula."""
    return re.sub(r"([\\`*_{}\[\]()<>&$|~#])", r"\\\1", shown(text))
