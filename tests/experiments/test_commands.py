"""What all commands share: their entry, their help, and paths in a home folder."""

import importlib
import io
import pwd
import sys

import pytest

from pvae_pyro import experiments
from pvae_pyro.data.cache import cache_dir
from pvae_pyro.data.download import offline
from pvae_pyro.experiments import cli, run_svi
from pvae_pyro.experiments.support.command import INTERRUPTED, entry
from tests.support import configs


def test_the_root_is_the_home_of_a_user_without_one(monkeypatch):
    """As in Docker: there is neither $HOME nor an entry in the list of users."""
    for name in ("HOME", "PVAE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    importlib.reload(experiments)
    assert str(cache_dir()) == "/.cache/pvae_pyro"


def test_a_home_is_expanded_in_options(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    parsed = run_svi.make_parser().parse_args(["--out=~/run", "--data=~/data"])
    assert (parsed.out, parsed.data) == (tmp_path / "run", tmp_path / "data")
    assert configs.asked("--dataset=manifest:~/a.csv").dataset == f"manifest:{tmp_path}/a.csv"
    assert configs.asked("--folder=~/a").folder == f"{tmp_path}/a"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_help_is_printed_in_any_encoding(monkeypatch, encoding):
    printed = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", printed)
    with pytest.raises(SystemExit) as ended:
        run_svi.main(["--help"])
    assert ended.value.code == 0
    printed.flush()
    assert b"\\u03b7" in printed.buffer.getvalue()  # η


def test_pvae_describes_its_commands(capsys):
    assert cli.main(["--help"]) == 0
    page = capsys.readouterr().out
    for name, (module, _) in cli.COMMANDS.items():
        assert f"  {name} " in page
        main = importlib.import_module(f"pvae_pyro.experiments.{module}").main
        assert hasattr(main, "__wrapped__")  # by `entry`
    assert cli.main(["trian"]) == 2
    assert "trian" in capsys.readouterr().err


def test_documented_errors_and_ctrl_c_end_a_command_in_a_line(capsys):
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


@pytest.mark.parametrize(("value", "expected"), [("0", False), ("No", False), ("1", True)])
def test_pvae_offline(monkeypatch, value, expected):
    monkeypatch.setenv("PVAE_OFFLINE", value)
    assert offline() is expected
