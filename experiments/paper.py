"""The paper's figures, and ours beside them."""

from typing import Any

from pvae_pyro.evaluate.run import LATENTS

# Hsu & Glass 2018, Table 1, PVAE: dataset -> latent -> modality -> purity in %.
TABLE_1 = {
    "tidigit": {
        "z_sem": {"speech": 99.77, "image": 99.10},
        "z_style": {"speech": 24.79, "image": 20.63},
    },
    "secuvoice": {
        "z_sem": {"speech": 99.30, "image": 99.02},
        "z_style": {"speech": 25.78, "image": 21.81},
    },
}


def table(results: dict[str, Any]) -> str:
    """A run's results.json as text: the scores, what shows whether a latent is in use at all,
    and, apart from them, the paper's purity on the corpus of that name."""
    paper = TABLE_1.get(results["dataset"], {})
    name = results["dataset"].upper()
    lines = [
        "",
        f"This run: {'STAND-IN: ' if results['stand_in'] else ''}{results['corpus']}",
        "Test partition, unimodal inference, k-means; purity in %.",
        "",
        f"{'':19}{'this run':>9}{'':28}{f'  | paper, {name}' if paper else ''}",
        f"{'latent':9}{'modality':10}{'purity':>9}{'NMI':>7}{'ARI':>7}{'active':>7}{'KL':>7}"
        f"{'  | purity' if paper else ''}",
    ]
    for latent in LATENTS:
        for modality, purity in results["purity"][latent].items():
            site = latent if latent == "z_sem" else f"{latent}_{modality}"
            units = results["active_units"][latent][modality]
            lines.append(
                f"{latent:9}{modality:10}{100 * purity:9.2f}"
                f"{results['nmi'][latent][modality]:7.3f}{results['ari'][latent][modality]:7.3f}"
                f"{units:7d}{results['test_terms'][f'kl/{site}']:7.1f}"
                + (
                    f"  | {paper[latent][modality]:.2f}"
                    if modality in paper.get(latent, {})
                    else ""
                )
                + ("  (not in use: its purity means nothing)" if units == 0 else "")
            )
    lines += [
        "",
        "active: dimensions whose posterior mean varies. KL to the prior, nats: of the guide of",
        "all modalities, so one number for z_sem.",
        f"{results['steps']} steps in {results['seconds_training']:.0f} s, seed {results['seed']}.",
    ]
    if results["stand_in"]:
        lines += ["This run's corpus is a STAND-IN: its figures are not comparable to the paper's."]
    return "\n".join(lines)
