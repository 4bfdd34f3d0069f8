"""Sound, pictures, vectors and tokens together, through every command."""

import json
import re
import sys
import types

import numpy as np
import pytest

from pvae_pyro.evaluate.judges import judge_accuracy, train_judge
from pvae_pyro.experiments import criticise, evaluate, figures, generate, report, run_svi
from pvae_pyro.experiments.support.build import build
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.data import load_data
from pvae_pyro.experiments.support.saved_run import read_config
from pvae_pyro.models import modalities
from tests.support import configs
from tests.support.tiny_run import REPOSITORY, small_corpus
from tests.support.tokens import MODALITY, token_column

PAGE = (REPOSITORY / "docs" / "modalities.md").read_text("utf-8")
FILE, ENTRY = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NAMES = ["speech", "image", "touch", "tokens"]
FEW = ["--limit", "6", "--num-samples", "2"]


@pytest.fixture(scope="module")
def own():
    """docs/modalities.md's touch, and tokens, as a user would add them."""
    touch = types.ModuleType("pvae_pyro.models.touch")
    exec(FILE, vars(touch))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pvae_pyro.models.touch", touch)
        entry: dict = {}
        exec(ENTRY, entry)
        patch.setitem(modalities.OWN, "touch", entry["OWN"]["touch"])
        patch.setitem(modalities.OWN, "tokens", "tests.support.tokens:MODALITY")
        yield touch


@pytest.fixture(scope="module")
def run(own, environment, tmp_path_factory):
    """A tiny run of the four."""
    here = tmp_path_factory.mktemp("four")
    options = small_corpus(here)
    names = ["--modalities", ",".join(NAMES)]
    assert run_svi.main([*options, *names, "--epochs", "1", "--out", str(here / "run")]) == 0
    return here / "run"


def test_scores_and_terms_cover_all_four_modalities(run):
    results = json.loads((run / "results.json").read_text("utf-8"))
    assert list(results["purity"]["z_sem"]) == list(results["purity"]["z_style"]) == NAMES
    terms = results["test_terms"]
    assert len([name for name in terms if name.startswith("contrastive/")]) == 4 * 3
    assert {f"restyling/{name}" for name in NAMES} < terms.keys()
    assert {f"coherence/{name}/z_style_{name}" for name in NAMES} < terms.keys()
    assert results["corpus"].endswith("drawings.csv + synthetic touch + made-up tokens")
    assert results["stand_in"] is True
    assert read_config(run).sample_rates == {"speech": 8000}


def test_every_measure_covers_all_four_modalities(run):
    few = [*FEW, "--judge-steps", "3", "--likelihood-examples", "4"]
    assert evaluate.main([str(run), *few]) == 0
    found = json.loads((run / "evaluation.json").read_text("utf-8"))
    pairs = {f"{a}->{b}" for a in NAMES for b in NAMES if a != b}
    assert pairs <= found["coherence"].keys()
    assert found["coherence"]["real_style"].keys() == pairs
    assert len(found["coherence"]["prior"]) == 6
    assert found["retrieval"]["z_sem"].keys() == pairs
    assert found["styles"]["diversity"].keys() == pairs
    assert found["styles"]["diversity"]["image->tokens"].keys() == {"duration"}
    assert found["styles"]["diversity"]["image->touch"] == {}
    for key in ("coherence", "style_swap", "probes", "log_likelihood"):
        assert "tokens" in json.dumps(found[key]), key
    conditional = found["log_likelihood"]["conditional"]
    assert "image,touch,tokens|speech" in conditional
    assert all(np.isfinite(value["difference_of_bounds"]) for value in conditional.values())


def test_criticism_covers_all_four_modalities(run):
    few = [*FEW, "--likelihood-examples", "4", "--importance-samples", "4"]
    assert criticise.main([str(run), *few]) == 0
    found = json.loads((run / "criticism.json").read_text("utf-8"))
    assert list(found["predictive_check"]) == NAMES
    assert found["predictive_check"]["touch"].keys() == {"mean", "sd"}
    assert "duration" in found["predictive_check"]["tokens"]
    assert found["importance"].keys() == {"joint", *NAMES}


@pytest.mark.slow
def test_figures_and_report_cover_all_four_modalities(run):
    assert figures.main([str(run), "--formats", "png"]) == 0
    drawn = {path.stem for path in (run / "figures").glob("*.png")}
    assert {f"restyle-{name}" for name in NAMES} < drawn
    assert {f"translate-{a}-to-{b}" for a in NAMES for b in NAMES if a != b} < drawn
    assert {f"joint-from-{name}" for name in NAMES} < drawn
    assert report.main([str(run)]) == 0
    page = (run / "report.html").read_text("utf-8")
    assert "<h3>Tokens from touch</h3>" in page
    assert "<h3>Touch, reconstructed and restyled</h3>" in page


def test_generated_vectors_and_tokens_are_written_as_arrays(run, tmp_path, capsys):
    """From a sound into what is neither picture nor sound: numbers, and a sheet."""
    word = run.parent / "test-a-0.wav"
    for name, shape in (("touch", (1, 16)), ("tokens", (5, 9))):
        out = tmp_path / name
        asked = ["--from", str(word), "--into", name, "--draws", "1", "--out", str(out)]
        assert generate.main(["translate", str(run), *asked]) == 0
        assert {path.name for path in out.iterdir()} == {
            "from-speech.wav", "sheet.png", "generated.npz", "generated.json"
        }  # fmt: skip
        with np.load(out / "generated.npz") as arrays:
            assert arrays[f"translated-{name}"].shape == shape
    capsys.readouterr()
    assert generate.main(["reconstruct", str(run), "--from", f"touch:{word}"]) == 1
    assert f"{word} is a sound" in capsys.readouterr().err


def test_judges_learn_vectors_and_tokens(own):
    for column in (own.touch_column(None, "abc"), token_column(None, "abc", copies=20)):
        (train,), (test,) = column.train.values(), column.test.values()
        judge = train_judge(train, 3, steps=60)
        assert judge_accuracy(judge, test) > 0.9


def test_a_users_modality_can_be_the_anchor(own, environment, small):
    """The classes are those asked for; the limit is of what leads."""
    of_data = [word for word in small if word != "--no-report"]
    options = [*of_data, "--modalities", "touch,tokens", "--classes", "a,b", "--limit", "3"]
    config = configs.config(*options)
    data = load_data(config, None)
    assert data.classes == ("a", "b")
    assert [len(data.train[name]) for name in ("touch", "tokens")] == [6, 16]
    assert data.log_mels == {}
    svi = build(config)
    assert list(svi.guide.unimodal) == ["touch", "tokens"]


def test_errors_name_unusable_modalities(own, environment, small, run, monkeypatch, capsys):
    def told(names):
        assert run_svi.main([*small, "--modalities", names]) == 1
        return capsys.readouterr().err

    assert "no modality 'smell': there are speech, image, touch, tokens" in told("smell,image")
    with pytest.raises(SystemExit):
        run_svi.main([*small, "--model", "vae-touch"])
    assert "--modalities has no touch" in capsys.readouterr().err
    for at, message in (
        ("pvae_pyro.models.nowhere:TOUCH", "cannot be imported"),
        ("tests.support.tokens:MODALITY", "not a Modality of that name"),
    ):
        monkeypatch.setitem(modalities.OWN, "touch", at)
        with pytest.raises(RunError, match=message):
            build(read_config(run))
    monkeypatch.delitem(modalities.OWN, "touch")
    with pytest.raises(RunError, match="no modality 'touch': there are"):
        build(read_config(run))
    monkeypatch.setattr("tests.support.tokens.MODALITY", modalities.Modality("tokens", None, None))
    of_data = [word for word in small if word != "--no-report"]
    options = [*of_data, "--modalities", "speech,tokens"]
    with pytest.raises(RunError, match="'tokens' has no column"):
        load_data(configs.config(*options), None)
    assert MODALITY.column is token_column
