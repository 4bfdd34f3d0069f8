"""The configuration: its command line, its bounds, config.json and what is made of the fields."""

import json
import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from pvae_pyro.experiments import run_svi
from pvae_pyro.experiments.support.command import DeviceError, RunError
from pvae_pyro.experiments.support.command_line import flag
from pvae_pyro.experiments.support.config import OBJECTIVE_VERSION, Options, config_of_json
from pvae_pyro.experiments.support.device import resolve_device
from pvae_pyro.experiments.support.options import OPTIONS
from pvae_pyro.experiments.support.saved_run import read_config
from tests.support.configs import asked, config
from tests.support.tiny_run import REPOSITORY

FIELDS = {name: field for group in OPTIONS for name, field in group.model_fields.items()}
# --help and a wrong option must not wait for these to be imported.
HEAVY = ("torch", "pyro", "torchvision", "torchaudio", "sklearn", "scipy", "matplotlib", "arviz")
LIGHT = f"""
import sys
from importlib import import_module
try:
    import_module(f"pvae_pyro.experiments.{{sys.argv[1]}}").main(sys.argv[2:])
except SystemExit as stopped:
    print(stopped.code, *sorted(set({HEAVY!r}) & set(sys.modules)))
"""


def bounds(name):
    """The smallest and largest value of a number, by its JSON Schema; None where it is none."""
    schema = TypeAdapter(Options).json_schema()["properties"][name]
    for part in schema.get("anyOf", [schema]):
        if part.get("type") in ("integer", "number"):
            return part.get("minimum", part.get("exclusiveMinimum")), part.get("maximum")
    return None


def test_numbers_beyond_their_bounds_are_refused(tmp_path, capsys):
    numbers = [name for name in FIELDS if bounds(name)]
    assert len(numbers) > 25
    for name in numbers:
        least, most = bounds(name)
        assert None not in (least, most), name
        kind = int if isinstance(most, int) else float
        for value in (2 * most + 1, "nan" if kind is float else "1.5"):
            with pytest.raises(SystemExit, match="2"):
                asked(flag(name), value)
            assert flag(name) in capsys.readouterr().err
        content = json.loads(config().model_dump_json()) | {name: 2 * most + 1}
        (tmp_path / "config.json").write_text(json.dumps(content))
        with pytest.raises(RunError, match=flag(name)):
            read_config(tmp_path)


def test_every_field_is_an_option_with_help():
    options = {a.option_strings[0]: a for a in run_svi.make_parser()._actions}
    for name in FIELDS:
        assert len(options[flag(name)].help) > 10, name
    page = run_svi.make_parser().format_help()
    assert "None)" not in page
    assert "True)" not in page
    main = page.partition("main options:")[2].partition("\ndata:")[0]
    assert {f"--{name}" for name in ("dataset", "seed", "epochs", "out", "resume")} <= {
        word for word in main.split() if word.startswith("--")
    }


@pytest.mark.parametrize(
    ("words", "code"), [("run_svi --help", 0), ("run_svi --bogus", 2), ("study --help", 0)]
)
def test_nothing_heavy_is_imported_for_help_or_a_wrong_option(words, code):
    command = [sys.executable, "-c", LIGHT, *words.split()]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1].split() == [str(code)]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--missing", 0.5, "--paired", 0.5], ["--missing", "--paired"]),
        (["--drop-incomplete"], ["--drop-incomplete", "--missing"]),
        (["--min-seconds", 2, "--max-seconds", 1], ["--min-seconds", "--max-seconds"]),
        (["--model", "vae-touch"], ["vae-touch", "--modalities"]),
        (["--model", "vae-"], ["vae-"]),
        (["--modalities", "image,image"], ["--modalities"]),
        (["--modality", "spanish=fsdd"], ["--modality", "NAME=speech:DATASET"]),
        (["--prior", "uniform"], ["--prior", "mixture"]),
        (["--epochs", 1, "--steps", 2], ["--epochs", "--steps"]),
        (["--resume", "a", "--out", "b"], ["--resume", "--out"]),
        (["--betta", 1], ["--betta"]),
        (["--epoch", 3], ["--epoch"]),
    ],
)
def test_options_that_contradict_each_other(words, named, capsys):
    with pytest.raises(SystemExit, match="2"):
        run_svi.main([*map(str, words)])
    error = capsys.readouterr().err
    assert all(name in error for name in named)


def test_presets():
    paper = asked("--preset", "paper").resolved("cpu")
    assert (paper.num_cells, paper.epochs, paper.batch_size) == (512, 400, 256)
    assert (paper.semantic_dim, paper.style_dim) == (32, 32)
    assert asked().resolved("cpu").preset == "quick"
    assert asked().resolved("cuda:1").preset == "paper"
    assert asked("--preset", "paper", "--epochs", 7).resolved("cpu").epochs == 7
    quick = asked("--preset", "quick").resolved("cpu")
    assert (quick.epochs, quick.batch_size) == (None, 64)
    # FSDD has 43 steps an epoch: 3,225 steps are the fewest whole epochs that make 3,200.
    assert quick.with_epochs(2700).epochs == 75
    assert quick.with_epochs(2700).with_epochs(9).epochs == 75  # filled in once
    ours, papers = (asked("--objective", name).resolved("cpu") for name in ("ours", "paper"))
    assert (ours.gamma, papers.gamma, papers.image_scale) == (30.0, 0.0, 1.0)
    assert asked("--gamma", 5).resolved("cpu").gamma == 5.0


def test_a_second_speech_joins_the_modalities():
    both = config("--modality", "spanish=speech:secuvoice")
    assert both.names == both.modelled == ("speech", "image", "spanish")
    assert both.second_speeches == {"spanish": "secuvoice"}
    first = config("--modalities", "spanish,image", "--modality", "spanish=speech:secuvoice")
    assert first.names == ("spanish", "image")
    assert config("--model", "vae-image").modelled == ("image",)


def test_a_configuration_is_read_as_it_was_written():
    found = {"data_digest": "0", "sample_rates": {"a": 8000}}
    one = config("--classes", "a,b", "--trim", "--seed", 3, **found)
    assert config_of_json(one.model_dump_json().encode()) == one
    with pytest.raises(ValidationError):
        one.seed = 4


def test_a_configuration_of_an_earlier_version():
    """It lacks options that came later, and has some that are gone."""
    old = {
        "num_cells": 64, "batch_size": 32, "preset": "quick", "epochs": 2, "device": "cpu",
        "modalities": ["speech", "spanish"], "spanish_dataset": "fsdd", "best_of": 5,
        "sample_rate_of_features": 16000,
    }  # fmt: skip
    found = config_of_json(json.dumps(old).encode())
    assert (found.objective, found.alpha, found.image_scale) == ("paper", 1.0, 1.0)
    assert (found.prior, found.num_components, found.pairs) == ("normal", 30, "anew")
    assert found.second_speeches == {"spanish": "fsdd"}
    assert found.sample_rates == {"speech": 16000}
    assert (found.epsilon, found.clip_norm, found.warm_up_steps) == (0.0, 0.0, 0)  # for --resume


@pytest.mark.parametrize(
    ("words", "version"),
    [(["--objective", "ours"], 1), (["--objective", "paper"], 3),
     (["--objective", "paper", "--gamma", 5], 1), (["--model", "jmvae"], 3)],
)  # fmt: skip
def test_the_version_of_the_objective(words, version):
    """Without one it is 1, unless nothing of the objective has changed since."""
    one = config(*words)
    assert one.objective_version == OBJECTIVE_VERSION == 3
    assert config_of_json(one.model_dump_json().encode()) == one
    old = json.loads(one.model_dump_json(exclude={"objective_version", "epsilon"}))
    assert config_of_json(json.dumps(old).encode()) == one.but(
        objective_version=version, epsilon=0.0
    )


@pytest.mark.parametrize(
    ("words", "version"), [(["--objective", "ours"], 2), (["--contrast", "hinge"], 3)]
)
def test_version_2_of_the_objective_had_another_infonce(words, version):
    one = config(*words)
    old = one.model_dump_json().replace('"objective_version":3', '"objective_version":2')
    assert config_of_json(old.encode()).objective_version == version


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"num_cells": 8}', b'{"num_cells": NaN}', b"\xff\xfe"]
)
def test_an_invalid_config_json_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(RunError, match=str(tmp_path)):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", True), ("seed", "1"), ("alpha", "1"), ("classes", "ab"), ("trim", 1), ("prior", "x"),
     ("device", None), ("max_frames", 0), ("sample_rates", {"speech": 1})],
)  # fmt: skip
def test_an_invalid_value_in_config_json_is_named(tmp_path, name, value):
    content = json.loads(config().model_dump_json()) | {name: value}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=flag(name)):
        read_config(tmp_path)


@pytest.mark.parametrize("device", ["meta", "opengl", "nonsense"])
def test_unusable_devices_are_named(device):
    with pytest.raises(DeviceError, match=f"--device {device}"):
        resolve_device(device)


def test_more_clusters_than_examples(small, environment, tmp_path, capsys):
    out = tmp_path / "run"
    assert run_svi.main([*small, "--num-clusters", "13", "--out", str(out)]) == 1
    told = capsys.readouterr().err
    assert "--num-clusters is 13" in told
    assert "12 test examples" in told
    assert not out.exists()
