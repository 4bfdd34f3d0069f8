"""What the README tells a user to type works."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pvae_pyro.data.corpora.registry import DATASETS
from pvae_pyro.data.corpus import SPLITS
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.experiments import (
    criticise,
    evaluate,
    figures,
    generate,
    prepare,
    report,
    run_svi,
    study,
)
from pvae_pyro.experiments.support.config import PRESETS
from pvae_pyro.guides import PartitionedGuide
from pvae_pyro.models.modalities import OWN
from pvae_pyro.models.priors import GaussianMixture
from tests.support.tiny import tiny_batch, tiny_modalities
from tests.support.tiny_corpora import write_corpora
from tests.support.tiny_run import REPOSITORY, small_corpus

PAGES = {path.stem: path.read_text("utf-8") for path in sorted((REPOSITORY / "docs").glob("*.md"))}
README = (REPOSITORY / "README.md").read_text("utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = {
    "run_svi": run_svi,
    "prepare": prepare,
    "evaluate": evaluate,
    "figures": figures,
    "study": study,
    "report": report,
    "criticise": criticise,
    "generate": generate,
}
# Options that make a line of the README tiny, by its command.
FEW = [
    *("--image-dataset", "manifest:drawings.csv", "--num-cells", "8", "--epochs", "1"),
    *("--device", "cpu", "--no-report"),
]
QUICK = ["--judge-steps", "2", "--num-samples", "2", "--likelihood-examples", "8"]
TINY = {
    "run_svi": [*FEW, "--limit", "2"],
    "prepare": ["--limit", "2"],
    "evaluate": [*QUICK, "--limit", "8"],
    "figures": ["--only", "curves", "translate"],
    "report": [],
    "criticise": [
        *("--limit", "5", "--num-samples", "3"),
        *("--likelihood-examples", "8", "--importance-samples", "30"),
    ],
    "generate": [],
    "study": [*FEW[:-1], "--limit", "2", "--seeds", "1", "--evaluate-limit", "8"],
}
# Lines that are not run here: the folder of `desk` replaces them, and .ci/run runs make.
NOT_RUN = (". .venv/bin/activate", "export PVAE_DATA=/my/data", "make ")


def command_lines() -> list[str]:
    """The README's command lines, without comments."""
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.M)).splitlines()
    lines += re.findall(r"`((?:make|python|torchrun) [^`]+)`", README)
    found = [shlex.split(line, comments=True) for line in lines]
    return list(dict.fromkeys(shlex.join(words) for words in found if words))


# --- snippets of Python --------------------------------------------------------------------------


def test_training_snippet(desk, tmp_path):
    """With fewer cells, one epoch, and the tiny corpus of `desk`."""
    (snippet,) = (block for block in PYTHON if "fit(" in block)
    for large, small in (
        ("num_cells=256", "num_cells=8"),
        ("num_epochs=75", "num_epochs=1"),
        ('Path(".")', f"Path({str(tmp_path)!r})"),
    ):
        assert large in snippet
        snippet = snippet.replace(large, small)
    names = {}
    exec(snippet, names)
    assert names["written"].shape == (10, 1, 28, 28)
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_prediction_snippet(desk):
    (snippet,) = (block for block in PYTHON if "Predictive(" in block)
    names = {}
    exec(snippet, names)
    pairs, spoken = names["pairs"], names["spoken"]
    longest = pairs["speech_loc"].shape[-2]
    assert longest > 10
    assert pairs["image_loc"].shape == (1, 16, 1, 28, 28)
    assert pairs["speech_loc"].shape == (1, 16, longest, 80)
    assert spoken["speech_loc"].shape == (5, 16, longest, 80)


def test_another_prior_is_one_line():
    """The README's edit of models/pvae.py gives a model that can be trained."""
    (diff,) = re.findall(r"```diff\n(.*?)```", README, re.DOTALL)
    old, new = (re.search(rf"^\{sign}(.*\n)", diff, re.M)[1] for sign in "-+")
    text = (REPOSITORY / "models" / "pvae.py").read_text("utf-8")
    assert text.count(old) == 1
    names = {"__name__": "pvae_pyro.models.edited"}
    exec(text.replace(old, new), names)
    guide = PartitionedGuide(tiny_modalities(), 3, 2)
    model = names["PVAE"](tiny_modalities(), 3, 2)
    assert isinstance(model.prior, GaussianMixture)
    PartitionedELBO().terms(model, guide, tiny_batch())["objective"].sum().backward()
    assert model.prior.loc.grad.abs().sum() > 0


def test_the_entry_of_another_modality():
    """It is that of docs/modalities.md, whose code tests/models/test_four_modalities.py runs."""
    (entry,) = (block for block in PYTHON if "OWN" in block)
    assert entry.split("\n", 1)[1] in PAGES["modalities"]


# --- command lines -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_desk(cache, tmp_path_factory):
    """A folder with what the README's lines name: corpora, a table, sounds and pictures, a run."""
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("desk")
    small_corpus(folder, "0123456789", copies=2)
    (folder / "words.csv").rename(folder / "my.csv")
    names = [f"{split}-{digit}-{n}" for split in SPLITS for digit in range(10) for n in range(2)]
    rows = [f"{name}.wav,{name}.png,{name.split('-')[0]}" for name in names]
    (folder / "my_pairs.csv").write_text("\n".join(["speech,image,split", *rows]))
    shutil.copy(folder / "test-7-0.wav", folder / "my_seven.wav")
    shutil.copy(folder / "test-1-0.png", folder / "my_hand.png")
    write_corpora(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        move_to(folder, cache, patch)
        assert run_svi.main(["--dataset", "fsdd", *TINY["run_svi"], "--out", "runs/my-run"]) == 0
    return folder


def move_to(folder, cache, patch) -> None:
    patch.chdir(folder)
    for name, value in {**cache, "PVAE_DATA": str(folder / "data")}.items():
        patch.setenv(name, value)


@pytest.fixture
def desk(made_desk, cache, monkeypatch):
    move_to(made_desk, cache, monkeypatch)
    return made_desk


@pytest.mark.parametrize("line", [line for line in command_lines() if not line.startswith(NOT_RUN)])
def test_command_lines_run(line, desk, tmp_path, monkeypatch):
    """Each as it stands, with the options of `TINY` added."""
    words = shlex.split(line)
    for word in words:
        if word.startswith("runs/") and not Path(word).exists():
            shutil.copytree("runs/my-run", word)
    if words[0] == "torchrun":
        run_by_torchrun(words[1:], desk)
        return
    command = Path(words[1]).stem
    assert words[:2] == ["python", f"experiments/{command}.py"], f"no test runs {line}"
    # No option makes these quick.
    monkeypatch.setattr(report, "FIGURES", ["curves", "translate"])
    if command == "study":
        of_one = evaluate.main
        monkeypatch.setattr(evaluate, "main", lambda words: of_one([*words, *QUICK]))
    words += TINY[command]
    # A default folder is named after the second, in which another test may run too.
    if command == "run_svi" and "--resume" not in words:
        words += ["--out", str(tmp_path / "run")]
    assert COMMANDS[command].main(words[2:]) == 0


def run_by_torchrun(words, desk) -> None:
    at = words.index("experiments/run_svi.py")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", *words[:at]]
    options = [*words[at + 1 :], *TINY["run_svi"], "--out", "several"]
    done = subprocess.run(
        [*start, str(REPOSITORY / words[at]), *options],
        cwd=desk, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("results in") == 1
    results = json.loads((desk / "several" / "results.json").read_text())
    assert results["processes"] == int(words[words.index("--nproc-per-node") + 1]) == 2
    assert results["steps"] == results["epochs"] == 1


def test_the_readme_shows_every_command():
    for command in COMMANDS:
        assert re.search(rf"^python experiments/{command}\.py ", README, re.M), command
    for make in ("run", "test"):
        assert f"make {make} " in README
    assert "make test" in (REPOSITORY / ".ci" / "run").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_command_lines_of_the_docs_parse(command, monkeypatch):
    """Those of docs/*.md, and those in the command's own help."""
    monkeypatch.setitem(OWN, "touch", "pvae_pyro.models.touch:TOUCH")  # docs/modalities.md adds it
    text = "\n".join([*PAGES.values(), str(COMMANDS[command].__doc__)])
    lines = re.findall(rf"^ *(?:\w+=\S+ )?python experiments/{command}\.py\b *(.*)$", text, re.M)
    assert lines
    for line in lines:
        if "--help" not in line:
            COMMANDS[command].make_parser().parse_args(shlex.split(line, comments=True))


# --- the text ------------------------------------------------------------------------------------


def test_options_and_presets_in_the_text_exist(capsys):
    known = run_svi.make_parser().format_help()
    for command in (evaluate, figures, study):
        with pytest.raises(SystemExit):
            command.main(["--help"])
    known += capsys.readouterr().out
    for option in re.findall(r"`(--[a-z-]+)", README + PAGES["data"]):
        assert option in known, option
    for dataset in DATASETS:
        assert f"`{dataset}`" in README
        assert f"| `{dataset}` |" in PAGES["data"]
    for name, preset in PRESETS.items():
        length = preset.get("epochs") or preset["steps"]
        assert re.search(rf"`{name}` \({preset['num_cells']} cells, {length} ", README), name
