"""Results of several seeds as one table, and that as Markdown beside the paper's."""

import re
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from pvae_pyro.errors import shown
from pvae_pyro.experiments.support.config import OBJECTIVES, PLACES
from pvae_pyro.experiments.support.paper_table import TABLE_1, scored_part

TITLES = {
    "vae-speech": "VAE-sp",
    "vae-image": "VAE-im",
    "jmvae": "JMVAE-kl",
    "pvae-b0": "PVAE (no contrastive)",
    "pvae": "PVAE",
    "pvae-ours": "PVAE, our objective",
}


# Of a configuration: what rows may differ in, and what the runs of one row may.
OF_A_RUN = {"seed", "device", "threads", *PLACES}
OF_A_ROW = {"model", *OF_A_RUN, "objective", *OBJECTIVES["ours"]}
NOT_MODALITY = ("model", "latent", "num_runs")


def aggregate(finished: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Mean and standard deviation of each purity over the seeds.

    finished: (row, its results.json) of every run.

    Returns what table1.json holds; purities are in [0, 1], and the standard deviation of a single
    seed is None; ``config`` holds the options that all runs share. Raises ValueError where runs
    are not of one corpus and budget, or those of a row not of the same options.
    """
    results = [result for _, result in finished]
    of_all: dict[str, Any] = {"dataset": results[-1]["dataset"]}  # a manifest may have moved
    for name in ("corpus", "stand_in", "preset"):
        values = {result[name] for result in results}
        if len(values) > 1:
            raise ValueError(f"a table of runs with different {name}: {sorted(map(str, values))}")
        of_all[name] = values.pop()
    configs = [result["config"] for result in results]
    common = {key: configs[0].get(key) for key in configs[0] if key not in OF_A_ROW}
    of_row: dict[str, dict[str, Any]] = {}
    for row, result in finished:
        for shared in (common, of_row.setdefault(row, result["config"])):
            for key in shared.keys() - OF_A_RUN:
                if result["config"].get(key) != shared[key]:
                    raise ValueError(f"runs of different {key} in one table, or in one row of it")
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row, result in finished:
        for latent in result["purity"]:
            groups.setdefault((row, latent), []).append(result)
    rows = []
    # As the paper has it: latents that should hold the class, then those that should not.
    order = [*(row for row in of_row if row not in TITLES), *TITLES]  # other VAEs, and the known
    for row, latent in sorted(groups, key=lambda key: (key[1] == "z_style", order.index(key[0]))):
        runs = groups[row, latent]
        if any(run["purity"][latent].keys() != runs[0]["purity"][latent].keys() for run in runs):
            raise ValueError(f"runs of {row} with different modalities in {latent}")
        entry: dict[str, Any] = {"model": row, "latent": latent, "num_runs": len(runs)}
        for modality in runs[0]["purity"][latent]:
            entry[modality] = {
                **_spread([run["purity"][latent][modality] for run in runs]),
                "active_units": [run["active_units"][latent][modality] for run in runs],
            }
        rows.append(entry)
    return {
        **of_all,
        "seeds": sorted({result["seed"] for result in results}),
        "config": common,
        "steps": sorted({result["steps"] for result in results}),
        "batch_size": sorted({result["config"]["batch_size"] for result in results}),
        "commits": sorted({str(result["git_commit"]) for result in results}),
        "rows": rows,
    }


def markdown(table: Mapping[str, Any]) -> str:
    """The table beside the paper's purities: of the same corpus, or else of TIDIGITS."""
    corpus = table["dataset"] if table["dataset"] in TABLE_1 else "tidigit"
    paper = TABLE_1[corpus]
    rows = sorted(table["rows"], key=len, reverse=True)  # of all modalities first: their order
    modalities = list(dict.fromkeys(m for row in rows for m in row if m not in NOT_MODALITY))
    budget = (
        f"{_list(table['steps'])} steps of {_list(table['batch_size'])}; preset {table['preset']}; "
        f"seed{'s' * (len(table['seeds']) > 1)} {_list(table['seeds'])}"
    )
    clusters = table["config"]["num_clusters"] or "as many as classes"
    lines = [
        f"# Table 1 on {'STAND-IN: ' if table['stand_in'] else ''}{_text(table['corpus'])}",
        "",
        f"Purity in % of k-means clusters, {clusters}, "
        f"of the unimodal guides' posterior means on the {scored_part(table['config'])}; mean ± "
        f"standard deviation over seeds. {budget}.",
        "",
    ]
    if table["stand_in"]:
        lines += ["A stand-in's figures are not comparable with the paper's.", ""]
    elif corpus != table["dataset"]:
        lines += ["The paper's figures are of another corpus.", ""]
    titles = [f"{m}, ours" for m in modalities] + [
        f"{m}, paper ({corpus.upper()})" for m in modalities
    ]
    lines += [f"| model | latent | {' | '.join(titles)} |", "|---" * (2 + len(titles)) + "|"]
    for row in table["rows"]:
        cells = [_cell(row.get(modality)) for modality in modalities]
        known = paper.get((row["model"], row["latent"]), {})
        cells += [f"{known[m]:.2f}" if m in known else "–" for m in modalities]
        title = TITLES.get(row["model"], row["model"].replace("vae", "VAE"))
        lines.append(f"| {title} | {row['latent']} | {' | '.join(cells)} |")
    if any("*" in line for line in lines):
        lines += ["", "\\* not in use (no active units) in some run: its purity means nothing."]
    return "\n".join(lines) + "\n"


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "–"
    spread = "" if entry["sd"] is None else f" ± {100 * entry['sd']:.2f}"
    return f"{100 * entry['mean']:.2f}{spread}" + "*" * (min(entry["active_units"]) == 0)


def _text(text: str) -> str:
    """Of others' choosing, such as a file's name: no markup, no HTML, no formula."""
    return re.sub(r"([\\`*_{}\[\]()<>&$|~#])", r"\\\1", shown(text))


def _list(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    return {"mean": mean(values), "sd": stdev(values) if len(values) > 1 else None}
