"""report.py on tiny runs: what stands in the page, and that it is one file that needs no other."""

import io
import json
import os
import re
import shutil

import numpy as np
import pytest
import soundfile
from PIL import Image

from pvae_pyro.data.examples import Examples
from pvae_pyro.evaluate.posterior import posterior_locs
from pvae_pyro.experiments import evaluate, figures, report
from pvae_pyro.experiments.support.saved_run import open_run
from pvae_pyro.figures.grids import choose_examples
from pvae_pyro.generation import decode
from pvae_pyro.report import gallery
from pvae_pyro.report.gallery import galleries
from tests.support.page import Page
from tests.support.tiny import tiny_examples, tiny_pair

ADDRESSES = ("src", "href", "srcset", "poster", "data", "action")


@pytest.fixture
def copied(small_runs, environment, tmp_path):
    """A copy of the run of a model on the small corpus."""
    return lambda model: shutil.copytree(small_runs[model], tmp_path / model)


@pytest.fixture
def run(copied):
    return copied("pvae")


def written(folder, *options):
    assert report.main([str(folder), *options]) == 0
    return Page((folder / "report.html").read_text("utf-8"))


def edit(folder, **changes):
    path = folder / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_page_needs_no_other_file(run, drawn, capsys):
    page = written(run)
    assert capsys.readouterr().out.startswith(f"{run / 'report.html'}: ")
    for name, attributes in page.tags:
        assert name not in ("script", "iframe", "object", "embed", "base")
        for key in attributes.keys() & set(ADDRESSES):
            assert attributes[key].startswith(("data:", "#")), (name, attributes[key][:80])
    assert not re.search(r"@import|url\(|https?:", page.content)
    (policy,) = (a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert {path.name for path in run.iterdir() if ".tmp" in path.name} == set()


def in_use(**not_in_use):
    """Active units: 32 of every latent, but of the images those that are named."""
    return {z: {"speech": 32, "image": not_in_use.get(z, 32)} for z in ("z_sem", "z_style")}


def test_configuration_and_scores(run, drawn):
    edit(run, active_units=in_use())
    page = written(run)
    results = json.loads((run / "results.json").read_text())
    for value in (results["corpus"], results["git_commit"] or "–", results["versions"]["torch"]):
        assert value in page.text
    for option, value in results["config"].items():
        assert option in page.text
        assert str(value) in page.text or value is None
    assert f"{100 * results['purity']['z_sem']['speech']:.2f}" in page.text
    assert "The paper's figures are of another corpus." in page.text
    assert "STAND-IN" not in page.text
    assert "not in use" not in page.text
    assert "evaluation.json is missing" in page.text


def test_stand_ins_and_unused_latents_are_marked(run, drawn):
    edit(run, stand_in=True, dataset="tidigit", active_units=in_use(z_style=0))
    page = written(run)
    assert page.text.count("STAND-IN") == 3  # on top, beside the corpus and under the scores
    assert page.text.index("STAND-IN") < page.text.index("Contents")
    assert [a for a in page.all("p") if a.get("class") == "warning"]
    assert page.text.count("not in use: its purity means nothing") == 1
    assert [a.get("class") for a in page.all("tr")].count("faint") == 1
    assert "99.77" in page.text  # the paper's purity of z_sem of speech
    assert "another corpus" not in page.text


@pytest.mark.parametrize(
    ("model", "titles", "players"),
    [
        ("pvae", ["Speech, reconstructed and restyled", "Image, reconstructed and restyled",
                  "Image from speech", "Speech from image"], 4 + 3 * 6 + 3 + 4 + 3 * 4),
        ("jmvae", ["Speech, reconstructed", "Image, reconstructed", "Image from speech",
                   "Speech from image"], 3 * 2 + 3 + 3),
        ("vae-speech", ["Speech, reconstructed"], 3 * 2),
        ("vae-image", ["Image, reconstructed"], 0),
    ],
)  # fmt: skip
def test_galleries_of_every_model(copied, drawn, model, titles, players):
    page = written(copied(model))
    assert [title for level, title in page.headings if level == 3] == titles
    assert len(page.all("audio")) == players
    assert ("Griffin-Lim" in page.text) == (players > 0)


def test_the_originals_are_those_that_were_chosen(run, drawn):
    """One of each class, in order; an image has its own pixels, a sound its own length."""
    page = written(run, "--seed", "5")
    opened = open_run(run, None)
    data, classes = opened.test, opened.data.classes
    pictures = {alt: content for content, alt in page.files("img")}
    sounds = {alt: content for content, alt in page.files("audio")}
    assert [alt for alt in pictures if "image, original" in alt] == [
        f"image, original: {label}" for label in classes
    ]
    for n, label in zip(choose_examples(data["image"], [0, 1, 2], 5), classes, strict=True):
        shown = np.asarray(Image.open(io.BytesIO(pictures[f"image, original: {label}"])))
        pixels = data["image"].values[n, 0].astype(float)
        assert shown.shape == (28, 28, 4)
        assert np.corrcoef(shown[..., 0].ravel(), pixels.ravel())[0, 1] > 0.99
    for n, label in zip(choose_examples(data["speech"], [0, 1, 2], 5), classes, strict=True):
        alt = f"speech, original: {label}, by {data['speech'].groups[n]}"
        samples, rate = soundfile.read(io.BytesIO(sounds[alt]))
        assert rate == opened.data.log_mels["speech"].sample_rate
        hop = opened.data.log_mels["speech"].hop_length
        assert abs(len(samples) / hop - data["speech"].lengths[n]) <= 1
        frames = np.asarray(Image.open(io.BytesIO(pictures[alt]))).shape[1]
        assert frames == data["speech"].lengths[n]
        assert samples.std() > 0.01


def test_each_cell_is_made_of_the_content_and_style_beside_it(monkeypatch):
    model, guide = tiny_pair()
    examples = tiny_examples(num_classes=4)
    asked = []

    def remember(model, latents, names):
        asked.append((names, {site: z.numpy() for site, z in latents.items()}))
        return decode(model, latents, names)

    monkeypatch.setattr(gallery, "decode", remember)
    classes = ("a", "b", "c", "d")
    assert len(galleries(model, guide.unimodal, examples, classes, {}, seed=3)) == 4
    locs, at, style_at = {}, {}, {}
    for name, of in examples.items():
        locs[name] = posterior_locs(guide.unimodal[name], name, of, "cpu")
        at[name] = choose_examples(of, range(4), 3)
        style_at[name] = choose_examples(of, range(4), 4)
    expected = []
    for source, target in [(n, n) for n in examples] + [tuple(examples), tuple(examples)[::-1]]:
        site = f"z_style_{target}"
        if source == target:
            expected.append(([target], {z: loc[at[source]] for z, loc in locs[source].items()}))
        for n in style_at[target]:
            style = np.repeat(locs[target][site][n : n + 1], 4, 0)
            of_both = {"z_sem": locs[source]["z_sem"][at[source]], site: style}
            expected.append(([target], of_both))
    assert len(asked) == len(expected) == 18
    for (names, latents), (wanted, values) in zip(asked, expected, strict=True):
        assert names == wanted
        assert latents.keys() == values.keys()
        for site, value in values.items():
            np.testing.assert_allclose(latents[site], value, atol=1e-5)


def test_modalities_without_sound_or_picture():
    model, guide = tiny_pair()
    examples = tiny_examples()
    shown = galleries(model, guide.unimodal, examples, ("a", "b", "c"), {})
    assert len(shown) == 4
    assert not any(cell.wav for one in shown for _, cells in one.rows for cell in cells)
    planes = np.zeros((4, 2, 8, 8), np.uint8)  # neither grey nor RGB
    of_image = examples["image"]
    examples["image"] = Examples(planes, np.array([0, 1, 2, 0]), of_image.normalisation)
    shown = galleries(model, guide.unimodal, examples, ("a", "b", "c"), {})
    assert [one.title for one in shown] == ["Speech, reconstructed and restyled"]


def test_current_figures_are_not_drawn_again(run, drawn):
    kept = run / "figures" / "tsne-z_sem.png"
    kept.parent.mkdir()
    Image.new("RGB", (9, 7), "red").save(kept)
    page = written(run)
    assert [name for name, _ in drawn] == [n for n in figures.FIGURES if n != "tsne"]
    assert kept.read_bytes() in [content for content, _ in page.files("img")]
    drawn.clear()
    written(run)
    assert drawn == []
    os.utime(kept, (0, 0))  # of before the results: of other weights
    written(run)
    assert drawn == [("tsne", 0)]


def test_measures_of_evaluate_are_shown(run, drawn):
    assert evaluate.main([str(run), "--only", "retrieval", "probes"]) == 0
    path = run / "evaluation.json"
    content = json.loads(path.read_text())
    page = written(run)
    titles = [title for level, title in page.headings if level == 3]
    assert titles[-2:] == ["Probes", "Retrieval"]
    score = content["retrieval"]["z_sem"]["speech->image"]
    assert re.search(rf"z_sem, speech-\S+\s*{score['recall_at_1']:.3f}", page.text)
    path.write_text(json.dumps(content | {"checkpoint": "of others"}))
    page = written(run)
    assert "evaluation.json is of other weights" in page.text
    assert "Retrieval" not in page.text


@pytest.mark.parametrize("name", ["results.json", "evaluation.json", "figures/own.png"])
def test_damaged_files_are_errors_and_the_report_is_unchanged(run, drawn, name, capsys):
    (run / "report.html").write_text("before")
    (run / "figures").mkdir()
    (run / name).write_text("{")
    assert report.main([str(run)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert name.split("/")[-1] in error
    assert (run / "report.html").read_text() == "before"


def test_out_names_the_file_and_unfinished_runs_are_refused(run, drawn, tmp_path, capsys):
    out = tmp_path / "elsewhere.html"
    assert report.main([str(run), "--out", str(out)]) == 0
    assert out.read_text("utf-8").startswith("<!doctype html>")
    assert not (run / "report.html").exists()
    assert report.main([str(run), "--out", str(tmp_path / "none" / "r.html")]) == 1
    (run / "results.json").unlink()
    assert report.main([str(run)]) == 1
    assert "is not finished" in capsys.readouterr().err
