"""A command runs the code of its own checkout, and a user's own packages stay the user's."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

COMMANDS = [
    path
    for path in sorted((REPOSITORY / "experiments").rglob("*.py"))
    if '__name__ == "__main__"' in path.read_text("utf-8")
]
# What the line in every command does, seen from its file being run.
RUN_FILE = """
import runpy, sys
runpy.run_path(sys.argv[1], run_name="not main")
import pvae_pyro.models.pvae
print(pvae_pyro.__file__, pvae_pyro.models.pvae.EDITED, sep="\\n")
"""


def python(code, *arguments, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_second_checkout_runs_its_own_code(tmp_path):
    """With an environment in which another checkout is installed."""
    for package in ("pvae_pyro", "models", "guides", "experiments"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / package, tmp_path / package, symlinks=True, ignore=ignored)
    with (tmp_path / "models" / "pvae.py").open("a") as file:
        file.write("\nEDITED = 'edited'\n")
    found = python(RUN_FILE, tmp_path / "experiments" / "generate.py", cwd="/")
    assert found == [str(tmp_path / "pvae_pyro" / "__init__.py"), "edited"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda path: path.name)
def test_every_command_begins_with_that_line(command):
    up = len(command.relative_to(REPOSITORY).parts) - 1
    before, _, _ = command.read_text("utf-8").partition("pvae_pyro.")
    assert f"    sys.path[0] = str(Path(__file__).resolve().parents[{up}])\n" in before


def test_a_users_own_packages_are_not_ours(tmp_path):
    for name in ("models", "guides", "experiments"):
        (tmp_path / f"{name}.py").write_text(f"MINE = '{name}'\n")
    code = """
        import sys
        sys.path[0:0] = [sys.argv[1]]
        from pvae_pyro.experiments.support.saved_run import load_run
        import models, guides, experiments
        print(models.MINE, guides.MINE, experiments.MINE)
    """
    code = "\n".join(line.strip() for line in code.splitlines())
    # As an editable install has it: the checkout on the path, but behind the user's folder.
    assert python(code, tmp_path, cwd=REPOSITORY) == ["models guides experiments"]
