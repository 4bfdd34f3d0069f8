"""The table of a run's scores beside the paper's, of the same model and data set."""

import pytest

from pvae_pyro.experiments.support.config import Options
from pvae_pyro.experiments.support.paper_table import TABLE_1, table
from pvae_pyro.experiments.support.results import Results
from pvae_pyro.experiments.support.tables import TITLES

STYLED = ("z_sem", "z_style")


def results(
    dataset="tidigit", modalities=("speech", "image"), stand_in=False, unused=(), **options
):
    """Results of a run; every figure is another one. unused: (latent, modality) with no unit."""
    config = Options(modalities=modalities, **options).resolved("cpu")
    latents = STYLED if config.model == "pvae" else ("z",)
    places = [(latent, modality) for latent in latents for modality in config.modelled]

    def score(first, step):
        found = {latent: {} for latent in latents}
        for n, (latent, modality) in enumerate(places):
            found[latent][modality] = first + n * step
        return found

    active_units = score(7, 1)
    for latent, modality in unused:
        active_units[latent][modality] = 0
    sites = {f"{lat}_{m}" if lat == "z_style" else lat for lat, m in places}
    return Results(
        purity=score(0.5, 0.01),
        ari=score(0.125, 0.001),
        purity_chance=score(0.19, 0.001),
        active_units=active_units,
        test_terms={f"kl/{site}": 20.0 + n for n, site in enumerate(sorted(sites))},
        config=config,
        dataset=dataset,
        corpus="a corpus",
        stand_in=stand_in,
        preset="quick",
        steps=12,
        seconds_training=34.4,
        seed=5,
        git_commit=None,
    )


def lines(text):
    """(latent, modality) -> that line's words."""
    found = {}
    for line in text.splitlines():
        words = line.replace("|", " ").split()
        if words and words[0] in (*STYLED, "z") and len(words) > 5:
            found[words[0], words[1]] = words[2:]
    return found


def test_a_line_of_every_latent_and_modality():
    found = lines(table(results()))
    # purity and its chance level in %, ARI, active units, KL of its site, the paper's purity
    assert found == {
        ("z_sem", "speech"): ["50.00", "19.00", "0.125", "7", "20.0", "99.77"],
        ("z_sem", "image"): ["51.00", "19.10", "0.126", "8", "20.0", "99.10"],
        ("z_style", "speech"): ["52.00", "19.20", "0.127", "9", "22.0", "24.79"],
        ("z_style", "image"): ["53.00", "19.30", "0.128", "10", "21.0", "20.63"],
    }
    text = table(results())
    assert "This run: a corpus" in text
    assert "paper, TIDIGIT" in text
    assert "12 steps in 34 s, seed 5," in text
    assert "STAND-IN" not in text
    assert "not in use" not in text


@pytest.mark.parametrize(
    ("model", "beta", "paper"),
    [
        ("pvae", 0.0, ["65.69", "97.95", "30.88", "21.73"]),
        ("jmvae", 100.0, ["45.48", "98.16"]),
        ("vae-speech", 100.0, ["45.73"]),
        ("vae-image", 100.0, ["76.38"]),
    ],
)
def test_the_papers_figures_are_of_the_same_model(model, beta, paper):
    found = lines(table(results(model=model, beta=beta)))
    assert [words[-1] for words in found.values()] == paper


def test_other_corpora_have_no_figures_of_the_paper():
    for dataset in ("fsdd", "manifest:/my.csv"):
        text = table(results(dataset=dataset))
        assert "paper" not in text
        assert lines(text)["z_sem", "image"][-1] == "20.0"  # the KL is the last column
    other = lines(table(results(dataset="secuvoice")))
    assert [words[-1] for words in other.values()] == ["99.30", "99.02", "25.78", "21.81"]


def test_the_table_names_the_scored_data_and_the_objective():
    text = table(results())
    assert "test partition" in text
    assert "objective: ours" in text
    text = table(results(hold_out=0.15, objective="paper"))
    assert "held-out 15 % of the training partition" in text
    assert "test partition" not in text
    assert "objective: paper" in text


def test_scores_that_earlier_versions_did_not_keep_are_dashes():
    unknown = {key: {} for key in ("purity_chance", "ari", "test_terms")}
    earlier = results().model_copy(update=unknown)
    assert lines(table(earlier))["z_sem", "speech"] == ["50.00", "–", "–", "7", "–", "99.77"]


def test_stand_ins_and_latents_that_are_not_in_use_are_marked():
    text = table(results(stand_in=True, unused=[("z_style", "image")]))
    assert "This run: STAND-IN: a corpus" in text
    assert "STAND-IN" in text.splitlines()[-1]
    (marked,) = (line for line in text.splitlines() if "not in use" in line)
    assert marked.split()[:2] == ["z_style", "image"]


def test_some_entries_of_the_papers_table():
    assert TABLE_1["secuvoice"]["jmvae", "z"] == {"speech": 64.43, "image": 98.46}
    assert TABLE_1["secuvoice"]["pvae-b0", "z_sem"] == {"speech": 77.80, "image": 98.43}
    assert TABLE_1["secuvoice"]["pvae-b0", "z_style"] == {"speech": 33.69, "image": 22.43}
    for rows in TABLE_1.values():
        assert {model for model, _ in rows} < set(TITLES)
        assert rows["vae-image", "z"] == {"image": 76.38}
