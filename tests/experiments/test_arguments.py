"""Numbers of the command line and of config.json that can only be mistakes, and devices."""

import argparse
import json
import re

import pytest

from pvae_pyro.experiments import criticise, evaluate, figures, generate, report, run_svi
from pvae_pyro.experiments.support import runs
from pvae_pyro.experiments.support.arguments import number
from pvae_pyro.experiments.support.errors import DeviceError, RunError
from pvae_pyro.experiments.support.options import make_parser
from pvae_pyro.experiments.support.device import resolve_device
from pvae_pyro.experiments.support.build import check_memory
from pvae_pyro.experiments.support.saved_run import read_config
from tests.robustness.fuzz.runs import CONFIGURATION


def numbers(parser):
    """option -> kind and bound."""
    actions = [action for action in parser._actions if hasattr(action.type, "most")]
    return {action.option_strings[0]: (action.type.of, action.type.most) for action in actions}


NUMBERS = numbers(make_parser(None))


def parsers():
    others = {c.__name__: c.make_parser() for c in (criticise, evaluate, figures, report)}
    (commands,) = (a for a in generate.make_parser()._actions if a.dest == "command")
    return {"run_svi": make_parser(None), **others, **commands.choices}


@pytest.mark.parametrize("name", parsers())
def test_every_number_has_a_bound_and_help_tells_it(name):
    parser = parsers()[name]
    assert all(most is not None for _, most in numbers(parser).values())
    help = " ".join(parser.format_help().split())
    for option, (_, most) in numbers(parser).items():
        assert re.search(rf"{option} [A-Z].*?; at most {re.escape(f'{most:.15g}')}", help)


@pytest.mark.parametrize("option", NUMBERS)
def test_more_than_the_bound_is_refused(option, tmp_path, capsys):
    kind, most = NUMBERS[option]
    parse = make_parser(None).parse_args
    assert vars(parse([option, str(most)]))[option[2:].replace("-", "_")] == most
    for value in ("1e300",) if kind is float else (2**62, most + 1, 10**400):
        with pytest.raises(SystemExit) as stopped:
            parse([option, str(value)])
        assert stopped.value.code == 2
        told = f"argument {option}: {str(value)[:40]}"
        error = capsys.readouterr().err
        assert told in error
        assert f"is more than {most:.15g}" in error
    name = option[2:].replace("-", "_")
    (tmp_path / "config.json").write_text(json.dumps({**CONFIGURATION, name: 2**62}))
    with pytest.raises(RunError, match=f"{name} is {2**62} .{2**62} is more than"):
        read_config(tmp_path)


@pytest.mark.parametrize("device", ["meta", "meta:0", "opengl", "hpu", "privateuseone", "xla"])
def test_devices_that_compute_nothing(device):
    with pytest.raises(DeviceError, match=f"cannot use --device {device}: nothing is computed"):
        resolve_device(device)


def test_a_model_larger_than_memory(monkeypatch):
    check_memory(CONFIGURATION)
    with pytest.raises(RunError, match=r"weights: to train .* GB, .* --num-cells 65536"):
        check_memory({**CONFIGURATION, "num_cells": 1 << 16})
    monkeypatch.setattr(runs.os, "sysconf", lambda name: 1000)
    with pytest.raises(RunError, match=r"and cpu has 0: --num-cells 4"):
        check_memory(CONFIGURATION)


def test_more_clusters_than_examples(small, environment, tmp_path, capsys):
    out = tmp_path / "run"
    assert run_svi.main([*small, "--num-clusters", "13", "--out", str(out)]) == 1
    assert "no 13 clusters (--num-clusters) of 12 test examples" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("kind", "limits", "good", "bad"),
    [
        (int, {"least": 1, "most": 3}, ["1", "3"], ["0", "4", "1.5", "x", "nan"]),
        (float, {"above": 0.0, "most": 1.0}, ["1e-9", "1"], ["0", "-1", "1.1", "nan", "inf"]),
    ],
)
def test_limits_of_a_number(kind, limits, good, bad):
    convert = number(kind, **limits)
    assert [convert(text) for text in good] == [kind(text) for text in good]
    for text in bad:
        with pytest.raises((argparse.ArgumentTypeError, ValueError)):
            convert(text)
