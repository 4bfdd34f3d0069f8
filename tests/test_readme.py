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
from tests.conftest import REPOSITORY
from tests.support.tiny import tiny_batch, tiny_modalities
from tests.support.tiny_corpora import write_corpora
from tests.support.tiny_run import small_corpus

README = (REPOSITORY / "README.md").read_text("utf-8")
DATA = (REPOSITORY / "docs" / "data.md").read_text("utf-8")
MODALITIES = (REPOSITORY / "docs" / "modalities.md").read_text("utf-8")
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
# In the text, and in the commands' own help.
LINES = re.findall(
    rf"^ *(?:\w+=\S+ )?python experiments/({'|'.join(COMMANDS)})\.py\b *(.*)$",
    "\n".join(
        [
            README,
            *(path.read_text("utf-8") for path in sorted((REPOSITORY / "docs").glob("*.md"))),
            *(str(command.__doc__) for command in COMMANDS.values()),
        ]
    ),
    re.M,
)


# What is added to a line of the README that is run, by its command: the little that makes it tiny.
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
# Lines that are not run here: `desk` does the like of the first two, and these are the tests.
ELSEWHERE = {". .venv/bin/activate", "export PVAE_DATA=/my/data", "make test"}


def shell_lines() -> list[str]:
    """The README's command lines, without comments, and the line of the Makefile for `make run`."""
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.M)).splitlines()
    lines += re.findall(r"`((?:make|python|torchrun) [^`]+)`", README)
    found = [shlex.split(line, comments=True) for line in lines]
    found = [made_by_make(words) if words[:2] == ["make", "run"] else words for words in found]
    return list(dict.fromkeys(shlex.join(words) for words in found if words))


def made_by_make(words: list[str]) -> list[str]:
    given = dict(word.split("=", 1) for word in words[2:])
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    line = re.search(r"^run:.*\n\t\$\(BIN\)/(.*)$", makefile, re.M)[1]
    return shlex.split(re.sub(r"\$\((\w+)\)", lambda name: given.pop(name[1], ""), line))


def blocks_of_python() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_training_snippet(desk, tmp_path):
    """As it stands, but small: fewer cells, one epoch, and the corpus that is at the desk."""
    (snippet,) = (block for block in blocks_of_python() if "fit(" in block)
    for large, small in (("num_cells=256", "num_cells=8"), ("num_epochs=75", "num_epochs=1")):
        assert large in snippet
        snippet = snippet.replace(large, small)
    names = {}
    exec(snippet.replace('Path(".")', f"Path({str(tmp_path)!r})"), names)
    assert names["written"].shape == (10, 1, 28, 28)
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_prediction_snippet(desk):
    (snippet,) = (block for block in blocks_of_python() if "Predictive(" in block)
    names = {}
    exec(snippet, names)
    pairs, spoken = names["pairs"], names["spoken"]
    longest = pairs["speech_loc"].shape[-2]
    assert longest > 10
    assert pairs["image_loc"].shape == (1, 16, 1, 28, 28)
    assert pairs["speech_loc"].shape == (1, 16, longest, 80)
    assert pairs["speech_log_frames"].shape == (1, 16)
    assert spoken["speech_loc"].shape == (5, 16, longest, 80)
    assert abs(spoken["speech_loc"].mean()) < 2


def test_another_prior_is_one_line():
    """The README's edit of models/pvae.py, made to its text: another prior, and it trains."""
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


@pytest.mark.parametrize(("command", "line"), sorted(set(LINES)))
def test_command_lines_parse(command, line, monkeypatch):
    arguments = shlex.split(line, comments=True)
    if "--help" in arguments:
        return
    monkeypatch.setitem(OWN, "touch", "pvae_pyro.models.touch:TOUCH")  # docs/modalities.md makes it
    COMMANDS[command].make_parser().parse_args(arguments)


@pytest.fixture(scope="module")
def made_desk(cache, tmp_path_factory):
    """A folder with what the README's lines name: corpora, a table, sounds and pictures, a run."""
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("desk")
    small_corpus(folder, "0123456789", copies=2)
    (folder / "words.csv").rename(folder / "my.csv")
    for name, of in (("my_seven.wav", 7), ("her_two.wav", 2)):
        shutil.copy(folder / f"test-{of}-0.wav", folder / name)
    for name, of in (("my_hand.png", 1), ("five.png", 5), ("3.png", 3), ("8.png", 8)):
        shutil.copy(folder / f"test-{of}-0.png", folder / name)
    write_corpora(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        at_the_desk(folder, cache, patch)
        assert run_svi.main(["--dataset", "fsdd", *TINY["run_svi"], "--out", "runs/my-run"]) == 0
    return folder


def at_the_desk(folder, cache, patch) -> None:
    patch.chdir(folder)
    for name, value in {**cache, "PVAE_DATA": str(folder / "data")}.items():
        patch.setenv(name, value)


@pytest.fixture
def desk(made_desk, cache, monkeypatch):
    at_the_desk(made_desk, cache, monkeypatch)
    return made_desk


@pytest.mark.parametrize("line", [line for line in shell_lines() if line not in ELSEWHERE])
def test_command_lines_run(line, desk, tmp_path, monkeypatch):
    """Each as it stands, but for the options in `TINY`."""
    words = shlex.split(line)
    for word in words:
        if word.startswith("runs/") and not Path(word).exists():
            shutil.copytree("runs/my-run", word)
    if words[0] == "torchrun":
        run_by_torchrun(words[1:], desk)
        return
    command = Path(words[1]).stem
    assert words[:2] == ["python", f"experiments/{command}.py"], f"nobody runs {line}"
    # What has no option to be done quickly.
    monkeypatch.setattr(report, "FIGURES", ["curves", "translate"])
    if command == "study":
        of_one = evaluate.main
        monkeypatch.setattr(evaluate, "main", lambda words: of_one([*words, *QUICK]))
    words += TINY[command]
    # Else its folder is named after the second, which may be another one's too.
    if command == "run_svi" and "--resume" not in words:
        words += ["--out", str(tmp_path / "run")]
    try:
        code = COMMANDS[command].main(words[2:])
    except SystemExit as end:
        assert "--help" in words
        code = end.code
    assert code == 0


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


def test_lines_that_are_not_run_are_there():
    assert {*shell_lines()} >= ELSEWHERE


TABLE = re.search(r"^\| `--dataset` \|.*?\n\n", DATA, re.DOTALL | re.M)[0]


@pytest.mark.parametrize(
    ("dataset", "otherwise"), re.findall(r"^\| `([^-`][^`]*)` \|.*\| (.+) \|$", TABLE, re.M)
)
def test_data_sets_of_the_table(dataset, otherwise, desk, tmp_path, capfd):
    """What the table of docs/data.md says of each where its corpus is not found, or trained on the
    small one."""
    options = ["--dataset", dataset, *TINY["run_svi"], "--out", str(tmp_path / "run")]
    if otherwise.startswith("an error"):
        assert run_svi.main(options) == 1
        assert dataset.removeprefix("manifest:") in capfd.readouterr().err
        return
    assert run_svi.main(options) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (
        results["stand_in"] == otherwise.endswith("stand-in") != otherwise.startswith("downloaded")
    )


def test_every_block_of_python_is_run():
    others = [b for b in blocks_of_python() if "fit(" not in b and "Predictive(" not in b]
    (entry,) = others
    assert entry.split("\n", 1)[1] in MODALITIES  # which tests/models follow


def test_the_readme_shows_every_command():
    for command in COMMANDS:
        assert re.search(rf"^python experiments/{command}\.py ", README, re.M), command
    assert len(set(LINES)) > len(COMMANDS)


def test_options_and_presets_in_the_text_exist(capsys):
    known = run_svi.make_parser().format_help()
    for command in (evaluate, figures, study):
        with pytest.raises(SystemExit):
            command.main(["--help"])
    known += capsys.readouterr().out
    for option in re.findall(r"`(--[a-z-]+)", README + DATA):
        assert option in known, option
    for dataset in DATASETS:
        assert f"`{dataset}`" in README
        assert f"| `{dataset}` |" in DATA
    for name, preset in PRESETS.items():
        length = preset.get("epochs") or preset["steps"]
        assert re.search(rf"`{name}` \({preset['num_cells']} cells, {length} ", README), name


def test_both_commands_are_in_the_makefile_and_the_gate():
    makefile = (REPOSITORY / "Makefile").read_text()
    for command in ("run", "test"):
        assert f"make {command} " in README
        assert re.search(rf"^{command}:", makefile, re.M)
    assert "make test" in (REPOSITORY / ".ci" / "run").read_text()
    assert "python experiments/run_svi.py --dataset tidigit" in makefile
