"""The paper's figures, and ours beside them."""

from pvae_pyro.experiments.support.config import Config
from pvae_pyro.experiments.support.results import Results

# Hsu & Glass 2018, Table 1: dataset -> (model, latent) -> modality -> purity in %.
TABLE_1 = {
    "tidigit": {
        ("vae-speech", "z"): {"speech": 45.73},
        ("vae-image", "z"): {"image": 76.38},
        ("jmvae", "z"): {"speech": 45.48, "image": 98.16},
        ("pvae-b0", "z_sem"): {"speech": 65.69, "image": 97.95},
        ("pvae", "z_sem"): {"speech": 99.77, "image": 99.10},
        ("pvae-b0", "z_style"): {"speech": 30.88, "image": 21.73},
        ("pvae", "z_style"): {"speech": 24.79, "image": 20.63},
    },
    "secuvoice": {
        ("vae-speech", "z"): {"speech": 63.73},
        ("vae-image", "z"): {"image": 76.38},
        ("jmvae", "z"): {"speech": 64.43, "image": 98.46},
        ("pvae-b0", "z_sem"): {"speech": 77.80, "image": 98.43},
        ("pvae", "z_sem"): {"speech": 99.30, "image": 99.02},
        ("pvae-b0", "z_style"): {"speech": 33.69, "image": 22.43},
        ("pvae", "z_style"): {"speech": 25.78, "image": 21.81},
    },
}


def scored_part(hold_out: float) -> str:
    """The data that a run with this --hold-out is scored on."""
    if hold_out:
        return f"held-out {100 * hold_out:g} % of the training partition"
    return "test partition"


def row_of(config: Config) -> str:
    """The model of the table that a configuration stands for: the PVAE with β = 0 is another."""
    return "pvae-b0" if (config.model, config.beta) == ("pvae", 0) else config.model


def known_of(results: Results, corpus: str) -> dict[str, dict[str, float]]:
    """The paper's purities on a corpus, of the model of these results: latent -> modality -> %.

    Nothing for a run of other modalities than the paper's two, or without labels.
    """
    if {*results.config.names} != {"speech", "image"} or results.not_scored:
        return {}
    row = row_of(results.config)
    rows = TABLE_1.get(corpus, {})
    return {latent: purities for (model, latent), purities in rows.items() if model == row}


def score_rows(results: Results, corpus: str) -> list[tuple[str, str, bool, list[str | None]]]:
    """Of each latent and modality: whether it is in use, and the cells purity (%), its chance level
    (%), ARI, active units, KL (nats) and the paper's purity (%) on a corpus; None if unknown.
    """
    paper = known_of(results, corpus)
    rows = []
    for latent, of_names in results.active_units.items():
        for name, units in of_names.items():
            purity = results.purity.get(latent, {}).get(name)
            cells = [
                _number(purity, 2, 100),
                _number(results.purity_chance.get(latent, {}).get(name), 2, 100),
                _number(results.ari.get(latent, {}).get(name), 3),
                _number(units, 0),
                _number(results.kl(latent, name), 1),
                _number(paper.get(latent, {}).get(name), 2),
            ]
            rows.append((latent, name, units > 0, cells))
    return rows


def table(results: Results) -> str:
    """A run's scores as text, with the paper's purity on the same corpus if it has one."""
    paper = known_of(results, results.dataset)
    lines = [
        "",
        f"This run: {'STAND-IN: ' if results.stand_in else ''}{results.corpus}",
        f"Scored on the {scored_part(results.config.hold_out)}: unimodal inference, k-means,",
        "purity in %.",
        "",
        f"{'':19}{'this run':>9}{'':29}{f'  | paper, {results.dataset.upper()}' if paper else ''}",
        f"{'latent':9}{'modality':10}{'purity':>9}{'chance':>8}{'ARI':>7}{'active':>7}{'KL':>7}"
        f"{'  | purity' if paper else ''}",
    ]
    for latent, name, in_use, (purity, chance, *cells, of_paper) in score_rows(
        results, results.dataset
    ):
        line = f"{latent:9}{name:10}{purity or '–':>9}{chance or '–':>8}"
        line += "".join(f"{cell or '–':>7}" for cell in cells)
        line += f"  | {of_paper}" if of_paper else ""
        meaning = ": its purity means nothing" * bool(purity)
        lines.append(line + f"  (not in use{meaning})" * (not in_use))
    lines += ["", results.not_scored] * bool(results.not_scored)
    lines += [
        "",
        "chance: purity of random clusters of the same sizes. active: dimensions whose posterior",
        "mean varies. KL to the prior, nats: of the guide of all modalities, so one number for",
        "z_sem.",
        f"{results.steps} steps in {results.seconds_training:.0f} s, seed {results.seed}, "
        f"objective: {results.config.objective}.",
    ]
    if results.stand_in:
        lines += ["This run's corpus is a STAND-IN: its figures are not comparable to the paper's."]
    return "\n".join(lines)


def _number(value: float | None, places: int, scale: float = 1) -> str | None:
    return None if value is None else f"{scale * value:.{places}f}"
