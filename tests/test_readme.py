"""What the README tells a user to type works."""

import re
import shlex

import pytest

from experiments import criticise, evaluate, figures, generate, prepare, report, run_svi, table1
from experiments.options import make_parser
from experiments.settings import PRESETS
from guides import PartitionedGuide
from models.modalities import OWN
from models.priors import GaussianMixture
from pvae_pyro.data.corpora.registry import DATASETS
from pvae_pyro.elbo import PartitionedELBO
from tests.conftest import REPOSITORY
from tests.tiny import tiny_batch, tiny_modalities

README = (REPOSITORY / "README.md").read_text("utf-8")
DATA = (REPOSITORY / "docs" / "data.md").read_text("utf-8")
COMMANDS = {
    "run_svi": run_svi,
    "prepare": prepare,
    "evaluate": evaluate,
    "figures": figures,
    "table1": table1,
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


def test_prediction_snippet(finished):
    folder, _ = finished
    (snippet,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        if "load_run(" in block
    )
    names = {}
    exec(snippet.replace("runs/my-run", str(folder)), names)
    pairs, spoken = names["pairs"], names["spoken"]
    longest = pairs["speech_loc"].shape[-2]
    assert pairs["image_loc"].shape == (1, 16, 1, 28, 28)
    assert pairs["speech_loc"].shape == (1, 16, longest, 80)
    assert pairs["speech_log_frames"].shape == (1, 16)
    assert spoken["speech_loc"].shape == (5, 3, longest, 80)
    assert longest > 10
    # Log energies lie between the floor, log 1e-8, and loud speech; normalised ones around zero.
    assert names["log_mel"].shape == (5, 3, longest, 80)
    assert -19 < names["log_mel"].mean() < -3
    assert abs(spoken["speech_loc"].mean()) < 2


def test_another_prior_is_one_line():
    """The README's edit of models/pvae.py, made to its text: another prior, and it trains."""
    (diff,) = re.findall(r"```diff\n(.*?)```", README, re.DOTALL)
    old, new = (re.search(rf"^\{sign}(.*\n)", diff, re.M)[1] for sign in "-+")
    text = (REPOSITORY / "models" / "pvae.py").read_text("utf-8")
    assert text.count(old) == 1
    names = {"__name__": "models.edited"}
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
    monkeypatch.setitem(OWN, "touch", "models.touch:TOUCH")  # docs/modalities.md makes it
    if command == "table1":  # whose parser is two
        monkeypatch.setattr(table1, "train_all", lambda *_: 77)
        assert table1.main(arguments) == 77
    else:
        parser = make_parser("") if command == "run_svi" else COMMANDS[command].make_parser()
        parser.parse_args(arguments)


def test_the_readme_shows_every_command():
    for command in COMMANDS:
        assert re.search(rf"^python experiments/{command}\.py ", README, re.M), command
    assert len(set(LINES)) > len(COMMANDS)


def test_options_and_presets_in_the_text_exist(capsys):
    known = make_parser("").format_help()
    for command in (evaluate, figures, table1):
        with pytest.raises(SystemExit):
            command.main(["--help"])
    known += capsys.readouterr().out
    for option in re.findall(r"`(--[a-z-]+)", README + DATA):
        assert option in known, option
    for dataset in DATASETS:
        assert f"| `{dataset}` |" in README
        assert f"| `{dataset}` |" in DATA
    for name, preset in PRESETS.items():
        assert (
            f"| `{name}` | {preset['num_cells']} | {preset.get('epochs') or preset['steps']} "
            in README
        )


def test_both_commands_are_in_the_makefile_and_the_gate():
    makefile = (REPOSITORY / "Makefile").read_text()
    for command in ("run", "test"):
        assert f"make {command} " in README
        assert re.search(rf"^{command}:", makefile, re.M)
    assert "make test" in (REPOSITORY / ".ci" / "run").read_text()
    assert "python experiments/run_svi.py --dataset tidigit" in makefile
