"""docs/modalities.md, followed in a copy of the repository, as a user would."""

import ast
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tokenize

import pytest

from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "modalities.md").read_text("utf-8")
FILE, ENTRY = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
FOLLOW = """
from pvae_pyro.experiments import evaluate, run_svi
assert run_svi.main({training!r}) == 0
assert evaluate.main({evaluating!r}) == 0
"""


def lines_of_code(text):
    """Numbers of the lines that are neither blank, nor comments, nor docstrings."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    docstrings = set()
    for node in ast.walk(ast.parse(text)):
        has_one = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if has_one and ast.get_docstring(node):
            docstrings |= {*range(node.body[0].lineno, node.body[0].end_lineno + 1)}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    used = {t.start[0] for t in tokens if t.type not in skipped and t.string}
    return used - docstrings


def entry():
    (line,) = (line for line in ENTRY.splitlines() if "touch" in line)
    return line


def test_the_page_says_how_many_lines_it_takes():
    count = len(lines_of_code(FILE)) + 1  # and the entry
    assert f"That is {count} lines of your own" in PAGE


@pytest.fixture
def copy(tmp_path):
    """The packages in another folder, the page's blocks applied."""
    for package in ("pvae_pyro", "models", "guides", "experiments"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / package, tmp_path / package, symlinks=True, ignore=ignored)
    (tmp_path / "models" / "touch.py").write_text(FILE, "utf-8")
    path = tmp_path / "models" / "modalities.py"
    before, after = path.read_text("utf-8").split("OWN: dict[str, str] = {", 1)
    path.write_text(f"{before}OWN: dict[str, str] = {{\n{entry()}{after}", "utf-8")
    return tmp_path


def test_following_the_page(copy, small, cache):
    out = str(copy / "run")
    (command,) = re.findall(r"run_svi\.py (--modalities \S*touch\S*)", PAGE)
    training = [*small, *command.split(), "--epochs", "1", "--out", out]
    measured = ("purity", "retrieval", "coherence", "style_swap", "log_likelihood")
    evaluating = [out, "--only", *measured, "--judge-steps", "5", "--limit", "6"]
    evaluating += ["--num-samples", "2", "--likelihood-examples", "4"]
    done = subprocess.run(
        [sys.executable, "-c", FOLLOW.format(training=training, evaluating=evaluating)],
        cwd=copy,
        env={**os.environ, **cache, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((copy / "run" / "results.json").read_text("utf-8"))
    for latent in ("z_sem", "z_style"):
        assert list(results["purity"][latent]) == ["speech", "image", "touch"]
        assert 1 / 3 <= results["purity"][latent]["touch"] <= 1
    assert results["corpus"].endswith("+ synthetic touch")
    assert results["stand_in"] is True
    assert results["test_terms"]["log_prob/touch"] < 0
    found = json.loads((copy / "run" / "evaluation.json").read_text("utf-8"))
    assert {"speech->touch", "touch->image"} < found["coherence"].keys()
    assert found["log_likelihood"]["marginal"].keys() == {"speech", "image", "touch"}
    assert "touch" in found["style_swap"]
    assert len(found["retrieval"]["z_sem"]) == 6
