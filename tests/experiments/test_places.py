"""Where things lie: data that moved, home folders, the repository, and what is printed there."""

import importlib
import io
import json
import os
import pwd
import shutil
import subprocess
import sys

import pytest

from pvae_pyro import experiments
from pvae_pyro.data.cache import cache_dir
from pvae_pyro.data.download import offline
from pvae_pyro.experiments import evaluate, figures, prepare, run_svi, study
from pvae_pyro.experiments.support.arguments import place
from pvae_pyro.experiments.support.command import INTERRUPTED, RunError, entry
from pvae_pyro.experiments.support.data import load_run_data
from pvae_pyro.experiments.support.saved_run import open_run, read_config, staying
from pvae_pyro.io import provenance as results
from tests.support import configs
from tests.support.tiny_run import small_corpus


@pytest.fixture(scope="module")
def begun(environment, tmp_path_factory):
    """A finished run, whose data are then moved."""
    folder = tmp_path_factory.mktemp("moved")
    (folder / "before").mkdir()
    options = [*small_corpus(folder / "before", copies=2), "--epochs", "1"]
    assert run_svi.main([*options, "--out", str(folder / "run")]) == 0
    (folder / "before").rename(folder / "now")
    (folder / "now" / "words.csv").rename(folder / "now" / "renamed.csv")
    return folder


@pytest.fixture
def moved(begun, tmp_path):
    """A copy of that run, and the options that say where its data lie now."""
    shutil.copytree(begun / "run", tmp_path / "run")
    options = [
        *("--dataset", f"manifest:{begun}/now/renamed.csv"),
        *("--image-dataset", f"manifest:{begun}/now/drawings.csv"),
    ]
    return tmp_path / "run", options


def now(options):
    return dict(zip(("dataset", "image_dataset"), options[1::2], strict=True))


def test_data_that_moved_are_missed_by_the_options_that_say_where(moved, capsys):
    run, _ = moved
    for command, arguments in ((run_svi, ["--resume"]), (evaluate, []), (figures, [])):
        assert command.main([*arguments, str(run)]) == 1
        told = capsys.readouterr().err
        assert "before/words.csv" in told
        assert "--dataset" in told
        assert "--image-dataset" in told
        assert "--spanish-dataset" not in told


def test_a_run_is_resumed_where_its_data_lie_now(moved):
    run, options = moved
    assert run_svi.main(["--resume", str(run), "--epochs", "2", "--no-report", *options]) == 0
    assert read_config(run).dataset == options[1]
    assert run_svi.main(["--resume", str(run), "--epochs", "3", "--no-report"]) == 0  # kept


def test_a_run_is_looked_at_where_its_data_lie_now(moved, capsys):
    run, options = moved
    assert evaluate.main([str(run), "--only", "purity", *options]) == 0
    assert figures.main([str(run), "--only", "curves", *options]) == 0


def test_other_data_are_told_by_both_digests(moved, begun, tmp_path, capsys):
    run, options = moved
    (tmp_path / "other").mkdir()
    other = small_corpus(tmp_path / "other", copies=3)[:4]
    before = json.loads((run / "config.json").read_text("utf-8"))["data_digest"]
    for command, arguments in ((run_svi, ["--resume"]), (evaluate, [])):
        assert command.main([*arguments, str(run), *other]) == 1
        told = capsys.readouterr().err
        assert "begun on other data" in told
        assert before in told
        assert "$PVAE_CACHE" in told
    assert evaluate.main([str(run), "--dataset", "fsdd", *options[2:]]) == 1
    assert "fsdd" in capsys.readouterr().err
    assert run_svi.main(["--resume", str(run), "--dataset", "fsdd"]) == 1
    assert "--dataset fsdd" in capsys.readouterr().err


def test_a_configuration_that_names_the_new_place_is_that_of_the_checkpoint(moved):
    run, _ = moved
    text = (run / "config.json").read_text("utf-8")
    text = text.replace("before/words", "now/renamed").replace("/before/", "/now/")
    (run / "config.json").write_text(text, "utf-8")
    assert run_svi.main(["--resume", str(run), "--no-report"]) == 0


def test_a_table_takes_runs_whose_data_moved_and_no_others(moved, begun, tmp_path, capsys):
    run, options = moved
    of_all = ["--num-cells", "8", "--epochs", "1"]
    assert study.run_one(run, configs.asked(*options, *of_all)) == 0
    assert open_run(run, None, "cpu", now(options))
    (tmp_path / "other").mkdir()
    other = small_corpus(tmp_path / "other", copies=3)[:4]
    with pytest.raises(RunError, match="other data"):
        study.run_one(run, configs.asked(*other, *of_all))


def test_paths_of_another_system_are_read(moved):
    run, options = moved
    content = json.loads((run / "config.json").read_text("utf-8"))
    content |= {"dataset": "manifest:C:\\data\\words.csv"}
    (run / "config.json").write_text(json.dumps(content), "utf-8")
    one = read_config(run)
    assert load_run_data(one, run, None, now(options)).digest() == one.data_digest


def test_a_checkpoint_does_not_depend_on_where_data_lie():
    one = configs.config(data_digest="0")
    moved = one.but(dataset="manifest:/elsewhere.csv", image_root="/pictures")
    assert staying(one) == staying(moved)
    assert staying(one) != staying(one.but(data_digest="1"))


def git(folder, *arguments):
    name = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    command = ("git", "-C", str(folder), *name, *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def repository(folder, *files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text('name = "pvae-pyro"\n' if file.endswith(".toml") else "")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "all")
    return git(folder, "rev-parse", "HEAD")


def commit_of(package, monkeypatch):
    package.mkdir(parents=True, exist_ok=True)
    (package / "provenance.py").touch()
    monkeypatch.setattr(results, "__file__", str(package / "provenance.py"))
    return results.environment()["git_commit"]


@pytest.mark.parametrize(
    "place", [".venv/lib/site-packages/pvae_pyro/io", "pvae_pyro/io", "tracked/pvae_pyro/io"]
)
def test_a_repository_of_the_user_is_not_ours(tmp_path, monkeypatch, place):
    files = ("thesis.tex", "pvae_pyro/io/provenance.py", "tracked/pvae_pyro/io/provenance.py")
    repository(tmp_path, *files)
    assert commit_of(tmp_path / place, monkeypatch) is None


def test_a_copy_of_ours_within_a_repository_of_the_user(tmp_path, monkeypatch):
    files = ("thesis.tex", "copy/pvae_pyro/io/provenance.py", "copy/pyproject.toml")
    repository(tmp_path, *files)
    assert commit_of(tmp_path / "copy" / "pvae_pyro" / "io", monkeypatch) is None


def test_the_commit_of_a_checkout(tmp_path, monkeypatch):
    ours = repository(tmp_path / "ours", "pvae_pyro/io/provenance.py", "pyproject.toml")
    package = tmp_path / "ours" / "pvae_pyro" / "io"
    assert commit_of(package, monkeypatch) == ours
    git(tmp_path / "ours", "worktree", "add", "-q", str(tmp_path / "beside"))
    assert commit_of(tmp_path / "beside" / "pvae_pyro" / "io", monkeypatch) == ours
    user = tmp_path / "user"
    repository(user, "thesis.tex")
    allow = ("-c", "protocol.file.allow=always")
    git(user, *allow, "submodule", "add", "-q", str(tmp_path / "ours"), "sub")
    assert commit_of(user / "sub" / "pvae_pyro" / "io", monkeypatch) == ours
    # Git sets these for its hooks, of the user's repository.
    monkeypatch.setenv("GIT_DIR", str(user / ".git"))
    assert commit_of(package, monkeypatch) == ours
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # as in a container
    assert commit_of(package, monkeypatch) == ours
    (package / "provenance.py").write_text("changed")
    assert commit_of(package, monkeypatch) == f"{ours}-dirty"


@pytest.fixture
def homeless(monkeypatch):
    """A user with neither $HOME nor an entry in the list of users."""

    def none(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    for name in ("PVAE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", none)


def test_a_user_without_a_home_has_the_root(homeless):
    importlib.reload(experiments)
    assert str(cache_dir()) == "/.cache/pvae_pyro"


def test_a_home_that_is_not_there_is_told(homeless, capsys):
    with pytest.raises(OSError, match="HOME"):
        cache_dir()
    with pytest.raises(SystemExit):
        run_svi.make_parser().parse_args(["--out=~/run"])
    told = capsys.readouterr().err
    assert "--out" in told
    assert "HOME" in told


def test_a_home_is_expanded_in_every_option(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    parsed = run_svi.make_parser().parse_args(["--out=~/run", "--resume=~/run", "--data=~/data"])
    assert (parsed.out, parsed.resume) == (tmp_path / "run", tmp_path / "run")
    assert parsed.data == tmp_path / "data"
    assert configs.asked("--dataset=manifest:~/a.csv").dataset == f"manifest:{tmp_path}/a.csv"
    assert configs.asked("--folder=~/a").folder == f"{tmp_path}/a"


def test_every_path_of_every_command_is_a_place():
    commands = [evaluate, figures, prepare]
    commands += [importlib.import_module(f"pvae_pyro.experiments.{c}") for c in ("align", "report")]
    for command in (run_svi.make_parser(), *(c.make_parser() for c in commands)):
        paths = [a for a in command._actions if a.metavar in ("DIR", "FILE", "FILE.csv")]
        assert paths
        assert all(action.type is place for action in paths), command.prog
    for name in ("align", "criticise", "generate", "study", "bench.speed", "bench.gpu_check"):
        source = importlib.import_module(f"pvae_pyro.experiments.{name}").__file__
        with open(source, encoding="utf-8") as file:
            assert "type=Path" not in file.read()


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", False), ("0", False), ("false", False), ("No", False), ("1", True), ("yes", True)],
)
def test_offline(monkeypatch, value, expected):
    monkeypatch.setenv("PVAE_OFFLINE", value)
    assert offline() is expected
    monkeypatch.delenv("PVAE_OFFLINE")
    assert not offline()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_help_is_printed_in_any_encoding(monkeypatch, encoding):
    printed = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", printed)
    with pytest.raises(SystemExit) as ended:
        run_svi.main(["--help"])
    assert ended.value.code == 0
    printed.flush()
    assert b"\\u03b7" in printed.buffer.getvalue()  # η


def test_every_command_has_the_same_entry():
    folder = os.path.dirname(experiments.__file__)
    names = [name[:-3] for name in os.listdir(folder) if name.endswith(".py")]
    found = [importlib.import_module(f"pvae_pyro.experiments.{name}") for name in names]
    mains = [module.main for module in found if hasattr(module, "main")]
    assert len(mains) >= 9
    assert all(hasattr(main, "__wrapped__") for main in mains)


def test_an_entry_tells_of_errors_and_of_ctrl_c(capsys):
    def raising(error):
        @entry("a half is kept", FloatingPointError)
        def main(argv):
            raise error

        return main(None)

    assert raising(FloatingPointError("what")) == 1
    assert raising(OSError("where")) == 1
    assert raising(KeyboardInterrupt()) == INTERRUPTED
    assert capsys.readouterr().err == "error: what\nerror: where\nstopped; a half is kept\n"
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())
