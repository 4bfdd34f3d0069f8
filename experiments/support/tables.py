"""The results of a study's runs, as JSON and as Markdown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from pvae_pyro.errors import shown
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.config import MAY_CHANGE, OBJECTIVES, PLACES, Config
from pvae_pyro.experiments.support.measured_figures import figures_of
from pvae_pyro.experiments.support.paper_table import TABLE_1, scored_part
from pvae_pyro.experiments.support.results import STYLE, Evaluation, Results, Shares

TABLE1 = "table1"
TITLES = {
    "vae-speech": "VAE-sp",
    "vae-image": "VAE-im",
    "jmvae": "JMVAE-kl",
    "pvae-b0": "PVAE (no contrastive)",
    "pvae": "PVAE",
    "pvae-ours": "PVAE, our objective",
}
# The options that runs of Table 1 may differ in.
MAY_DIFFER = {
    *("model", "objective", "objective_version", *OBJECTIVES["ours"], "seed", "threads"),
    *PLACES,
    *(name for name in MAY_CHANGE if name != "epochs"),
}
# Studies whose rows have other data or other likelihoods, so that nats cannot be compared.
OF_OTHER_DENSITIES = ("likelihoods", "modalities")
LIKELIHOOD = "importance-weighted log-likelihood"
IN_NATS = ("elbo", LIKELIHOOD)
MEASURED = ("subsets", "unseen", "prior_clusters")  # keys of evaluation.json that are kept

FRACTIONS = ("purity", "coherence", "pairs", "largest", "swap", "probe")  # printed in %
DIGITS = {"seconds": 3, "correlation": 2, "error": 4, "distance": 2}  # after the point, else 1

Run = Mapping[str, Any]


def collect(row: str, results: Results, evaluation: Evaluation | None = None) -> dict[str, Any]:
    """A run's results and evaluation; ``figures`` are its column in the table: name -> number.

    ``chances`` are the chance levels of figures: name -> number. ``left_out`` has figures that are
    not reliable: name -> reason.
    """
    evaluation = evaluation or Evaluation()
    figures = _figures(results.purity, evaluation.coherence)
    chances = _figures(results.purity_chance, evaluation.coherence.get("chance", {}))
    measured = evaluation.model_extra or {}
    found = {**measured, "coherence": evaluation.coherence, "num_classes": evaluation.num_classes}
    for name, value, chance in figures_of(found):
        figures[name], chances[name] = value, chance
    joint = evaluation.log_likelihood.get("joint", {})
    figures["elbo"] = results.test_terms.get("elbo")
    figures[LIKELIHOOD] = joint.get("mean")
    figures["seconds a step"] = results.seconds_training / max(results.steps, 1)
    left_out = {LIKELIHOOD: joint["reason"]} if "reason" in joint else {}
    return {
        "row": row,
        **results.model_dump(mode="json"),
        "figures": {name: value for name, value in figures.items() if value is not None},
        "chances": {name: value for name, value in chances.items() if value is not None},
        "left_out": left_out,
        **{name: measured[name] for name in MEASURED if name in measured},
    }


def _figures(purity: Shares, coherence: Mapping[str, Any]) -> dict[str, float | None]:
    """The fractions of a column, or their chance levels."""
    figures: dict[str, float | None] = {
        f"purity {latent} {name}": value
        for latent, of_names in purity.items()
        for name, value in of_names.items()
    }
    for what, value in coherence.items():
        if "->" in what:
            figures[f"coherence {what}"] = value
    for pair, value in coherence.get("prior", {}).items():
        figures[f"pairs from the prior agree {pair}"] = value
    for name, value in coherence.get("largest_class", {}).items():
        figures[f"largest class from the prior {name}"] = value
    return figures


def markdown(study: str, runs: Sequence[Run]) -> str:
    """The table of a study. Raises RunError if runs of Table 1 have different data or budgets."""
    return table1(runs) if study == TABLE1 else side_by_side(study, runs)


def table1(runs: Sequence[Run]) -> str:
    """The paper's Table 1: mean ± standard deviation over seeds of each purity, its chance level,
    and in brackets the paper's purity on the same corpus, or else on TIDIGITS.

    Raises RunError if the runs have different data or budgets.
    """
    for name in sorted(Config.model_fields.keys() - MAY_DIFFER):
        if len(values := {str(run["config"].get(name)) for run in runs}) > 1:
            raise RunError(f"the runs of one table differ in {name}: {', '.join(sorted(values))}")
    last = runs[-1]
    corpus = last["dataset"] if last["dataset"] in TABLE_1 else "tidigit"
    clusters = last["config"]["num_clusters"] or "as many as classes"
    lines = [
        f"# Table 1 on {_corpus(last)}",
        "",
        f"Purity in % of k-means clusters, {clusters}, of the unimodal guides' posterior means on "
        f"the {scored_part(last['config']['hold_out'])}; mean ± standard deviation over seeds; "
        "chance: that of random clusters of the same sizes; "
        f"in brackets the paper's purity on {corpus.upper()}. "
        f"{_list(run['steps'] for run in runs)} steps of {last['config']['batch_size']}; "
        f"preset {last['preset']}; {_seeds(runs)}.",
        "",
    ]
    if last["stand_in"]:
        lines += ["A stand-in's figures are not comparable with the paper's.", ""]
    elif corpus != last["dataset"]:
        lines += ["The paper's figures are of another corpus.", ""]
    scored = {name for run in runs for of_names in run["purity"].values() for name in of_names}
    names = [name for name in last["config"]["modalities"] if name in scored]
    lines += _head(["model", "latent", *names])
    # As in the paper: latents that should hold the class come before those that should not.
    pairs = dict.fromkeys((run["row"], latent) for run in runs for latent in run["purity"])
    order = [*(row for row, _ in pairs if row not in TITLES), *TITLES]
    for row, latent in sorted(pairs, key=lambda pair: (pair[1] == STYLE, order.index(pair[0]))):
        known = TABLE_1[corpus].get((row, latent), {})
        some = [run for run in runs if run["row"] == row]
        cells = [_purity(some, latent, name, known.get(name)) for name in names]
        title = TITLES.get(row, row.replace("vae", "VAE"))
        lines.append(f"| {title} | {latent} | {' | '.join(cells)} |")
    if any("*" in line for line in lines if line.startswith("| ")):
        lines += ["", "\\* not in use (no active units) in some run: its purity means nothing."]
    return "\n".join(lines) + "\n"


def side_by_side(study: str, runs: Sequence[Run]) -> str:
    """A column for each row of the study: mean ± standard deviation over its seeds."""
    rows = list(dict.fromkeys(run["row"] for run in runs))
    names = dict.fromkeys(name for run in runs for name in run["figures"])
    units = "elbo and log-likelihood in nats"
    if study in OF_OTHER_DENSITIES:
        names = {name: None for name in names if name not in IN_NATS}
        units = "elbo and log-likelihood are left out, because the rows model different things"
    config = runs[0]["config"]
    of_rows = {run["row"]: _corpus(run) for run in runs}
    one = len({*of_rows.values()}) == 1
    corpora = [f"* {row}: {corpus}" for row, corpus in of_rows.items()]
    lines = [
        f"# {study}",
        "",
        *([_corpus(runs[0])] if one else corpora),
        "",
        f"{config['preset']} preset, {_list(run['steps'] for run in runs)} steps of "
        f"{config['batch_size']}, objective {config['objective']}; {_seeds(runs)}; "
        f"fractions in %, {units}.",
        "",
        *_head(["", *rows]),
    ]
    for name in names:
        digits = next((n for start, n in DIGITS.items() if name.startswith(start)), 1)
        scale = 100 if name.startswith(FRACTIONS) else 1
        cells = []
        for row in rows:
            of_row = [run for run in runs if run["row"] == row]
            values = [scale * run["figures"][name] for run in of_row if name in run["figures"]]
            by_chance = [run.get("chances", {}).get(name) for run in of_row]
            known = [scale * value for value in by_chance if value is not None]
            chance = f" (chance {mean(known):.{digits}f})" if known else ""
            cells.append(_spread(values, digits) + chance)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for run in runs if study not in OF_OTHER_DENSITIES else ():
        for name, reason in run.get("left_out", {}).items():
            lines += ["", f"{run['row']}, seed {run['seed']}: no {name}. {reason}."]
    return "\n".join(lines) + "\n"


def _purity(runs: Sequence[Run], latent: str, name: str, of_paper: float | None) -> str:
    some = [run for run in runs if name in run["purity"].get(latent, {})]
    if not some:
        return "–"
    unused = "*" * (min(run["active_units"][latent][name] for run in some) == 0)
    known = "" if of_paper is None else f" ({of_paper:.2f})"
    chances = [run.get("purity_chance", {}).get(latent, {}).get(name) for run in some]
    chance = "" if None in chances else f", chance {100 * mean(chances):.1f}"
    purity = _spread([100 * run["purity"][latent][name] for run in some], 2)
    return purity + unused + chance + known


def _spread(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation."""
    if not values:
        return "–"
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def _head(titles: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]


def _seeds(runs: Sequence[Run]) -> str:
    return f"seeds {_list(run['seed'] for run in runs)}"


def _list(values: Iterable[Any]) -> str:
    return ", ".join(map(str, sorted({*values})))


def _corpus(run: Run) -> str:
    """Without markup, HTML or formulas that the name of a user's file might have."""
    corpus = re.sub(r"([\\`*_{}\[\]()<>&$|~#])", r"\\\1", shown(run["corpus"]))
    return f"STAND-IN: {corpus}" if run["stand_in"] else corpus
