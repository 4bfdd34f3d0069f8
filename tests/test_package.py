"""What a user imports and which code a command runs; what a wheel contains, and that it works."""

import ast
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

import pvae_pyro
from pvae_pyro.experiments import cli
from tests.support.tiny_run import REPOSITORY


def test_every_exported_name_is_there():
    for name in pvae_pyro.__all__:
        assert getattr(pvae_pyro, name).__name__ == name or name == "Batch"
    assert {"load_run", "fit", "SVI"} <= {*dir(pvae_pyro)}
    with pytest.raises(AttributeError, match="nothing"):
        pvae_pyro.nothing  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
    code = "import pvae_pyro, sys; print({'torch', 'sklearn', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_the_console_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", "--help"])
    assert stopped.value.code == 0
    assert "usage: pvae train" in capsys.readouterr().out
    assert cli.main([]) == 2


@pytest.mark.parametrize(
    "command", sorted((REPOSITORY / "experiments").rglob("*.py")), ids=lambda path: path.name
)
def test_a_command_runs_the_code_of_its_own_checkout(command, monkeypatch):
    """Also in an environment where another checkout is installed."""
    text = command.read_text("utf-8")
    if '__name__ == "__main__"' not in text:
        return
    body = ast.parse(text).body
    first = next(n for n, node in enumerate(body) if "pvae_pyro" in ast.unparse(node))
    monkeypatch.setattr(sys, "path", ["of the script", *sys.path])
    names = {"__file__": str(command), "__package__": None, "__name__": "other"}
    exec(compile(ast.Module(body[:first], []), str(command), "exec"), names)
    assert sys.path[0] == str(REPOSITORY)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The project's wheel, built from a copy of the checkout."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if files.returncode:
        pytest.skip("not a git checkout")
    subprocess.run(
        ["tar", "-cf", str(folder / "copy.tar"), "-T", "-"],
        cwd=REPOSITORY, input=files.stdout, text=True, check=True,
    )  # fmt: skip
    (folder / "copy").mkdir()
    subprocess.run(["tar", "-xf", "../copy.tar"], cwd=folder / "copy", check=True)
    build = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    subprocess.run(
        [sys.executable, "-c", build], cwd=folder / "copy", capture_output=True, check=True
    )
    (path,) = folder.glob("*.whl")
    return path


def test_a_wheel_has_one_package_and_all_of_it(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"pvae_pyro"}
    for name in (
        *("models/pvae.py", "guides/pvae.py", "experiments/run_svi.py", "nn/lstm/lstm.c"),
        *("report/report.css", "experiments/support/config.py"),
    ):
        assert f"pvae_pyro/{name}" in names


@pytest.mark.slow
def test_a_wheel_trains_loads_and_translates(wheel, tmp_path):
    """In a clean virtual environment, beside a user's own modules of our folders' names.

    Takes minutes, and a package index.
    """

    def run(*words):
        subprocess.run([*map(str, words)], cwd=tmp_path, check=True)

    run(sys.executable, "-m", "venv", "venv")
    scripts = tmp_path / "venv" / "bin"
    run(scripts / "python", "-m", "pip", "install", "-q", f"{wheel}[espeak]")
    for name in ("models", "guides", "experiments"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the module of the user')\n")
    few = ("--limit", 2, "--steps", 20, "--num-cells", 8, "--no-report", "--out", "run")
    run(scripts / "pvae", "train", "--dataset", "tidigit", *few)
    assert json.loads((tmp_path / "run" / "results.json").read_text())["steps"] == 20
    run(scripts / "python", "-c", "from pvae_pyro import load_run; load_run('run')")
    run(scripts / "pvae", "generate", "sample", "run", "--draws", 2, "--out", "drawn")
    one = np.zeros((28, 28), np.uint8)
    one[5:23, 12:16] = 255
    Image.fromarray(one).save(tmp_path / "mine.png")
    run(scripts / "pvae", "generate", "translate", "run", "--from", "mine.png", "--out", "said")
    assert list((tmp_path / "said").glob("translated-speech*.wav"))
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    top = {path.name for path in packages.iterdir()}
    assert {name for name in top if name.startswith("pvae")} == {
        "pvae_pyro",
        f"pvae_pyro-{pvae_pyro.__version__}.dist-info",
    }
    assert not top & {"models", "guides", "experiments", "tests"}
