"""figures.py on tiny runs: which figures of which model, and where they go."""

import json
import shutil

import numpy as np
import pytest

from pvae_pyro.experiments import evaluate, figures

PNG = b"\x89PNG\r\n\x1a\n"
OF_PVAE = {
    *("model", "curves", "inertia-z_sem"),
    *("restyle-speech", "restyle-image"),
    *("translate-speech-to-image", "translate-image-to-speech"),
    *("joint-from-speech", "joint-from-image"),
    *("tsne-z_sem", "tsne-z_sem-pooled", "tsne-z_style", "tsne-z_style-speech-by-speaker"),
}
OF_JMVAE = {
    *("model", "curves", "inertia-z", "joint-from-speech", "joint-from-image"),
    *("tsne-z", "tsne-z-pooled"),
}


@pytest.fixture
def run(small_runs, environment, tmp_path):
    """A copy of a JMVAE's run on the small corpus."""
    return shutil.copytree(small_runs["jmvae"], tmp_path / "run")


def names(folder):
    return {path.name.removesuffix(".png") for path in folder.iterdir()}


def test_every_figure_of_a_pvae(small_runs, environment, tmp_path, capsys):
    out = tmp_path / "figures"
    assert figures.main([str(small_runs["pvae"]), "--formats", "png", "--out", str(out)]) == 0
    assert names(out) == OF_PVAE
    for path in out.iterdir():
        assert path.suffix == ".png"
        assert path.read_bytes()[:8] == PNG
        assert path.stat().st_size > 5000, path
    printed = capsys.readouterr().out.split()
    assert sorted(printed) == sorted(str(path) for path in out.iterdir())
    for name in figures.FIGURES:
        assert f"\n{name} " in figures.__doc__
        assert any(title.startswith(name) for title in OF_PVAE)


def test_a_baseline_has_nothing_to_restyle_or_translate(run, capsys):
    assert figures.main([str(run), "--formats", "png"]) == 0
    assert names(run / "figures") == OF_JMVAE
    capsys.readouterr()
    assert figures.main([str(run), "--only", "restyle"]) == 0
    assert (
        capsys.readouterr().out
        == "nothing to draw: this model has no such latents, or none that is in use\n"
    )


def test_only_the_requested_figures_and_formats_are_written(run, drawn):
    arguments = [str(run), "--only", "tsne", "curves", "--formats", "pdf", "svg", "--seed", "3"]
    assert figures.main(arguments) == 0
    assert drawn == [("tsne", 3), ("curves", 3)]
    files = {path.name for path in (run / "figures").iterdir()}
    assert files == {"tsne.pdf", "tsne.svg", "curves.pdf", "curves.svg"}
    assert (run / "figures" / "tsne.pdf").read_bytes().startswith(b"%PDF")


def test_inertia_comes_from_an_evaluation_of_the_same_weights(run, monkeypatch):
    assert evaluate.main([str(run), "--only", "num_classes"]) == 0

    def again(name, run, settings):
        raise AssertionError("measured again")

    monkeypatch.setattr(figures, "measure", again)
    inertia = [str(run), "--only", "inertia", "--formats", "png"]
    assert figures.main(inertia) == 0
    assert names(run / "figures") == {"inertia-z"}
    path = run / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"checkpoint": "of others"}))
    with pytest.raises(AssertionError, match="measured again"):
        figures.main(inertia)


@pytest.mark.parametrize("collapsed", [["image"], ["speech", "image"]])
def test_a_latent_that_is_a_single_point_is_left_out(run, monkeypatch, collapsed):
    latents_of = evaluate.SavedRun.latents

    def latents(self, partition="test", sampled=False):
        found = latents_of(self, partition, sampled)["z"]
        return {"z": found | {name: np.zeros_like(found[name]) for name in collapsed}}

    monkeypatch.setattr(evaluate.SavedRun, "latents", latents)
    assert figures.main([str(run), "--only", "tsne", "inertia", "--formats", "png"]) == 0
    if len(collapsed) > 1:
        assert not (run / "figures").exists()
    else:
        assert names(run / "figures") == {"tsne-z", "inertia-z"}  # and nothing pooled
