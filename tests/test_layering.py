"""Imports run one way: experiments -> models, guides -> pvae_pyro; and what names may not leak."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "pvae_pyro": {"pvae_pyro"},
    "models": {"models", "pvae_pyro"},
    "guides": {"guides", "pvae_pyro"},
    "experiments": {"experiments", "models", "guides", "pvae_pyro"},
}
# Networks and corpora may name a modality. The rest of the library serves any.
MAY_NAME_MODALITIES = ("pvae_pyro/nn/", "pvae_pyro/data/")


def imported_packages(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            names.add(node.module)
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_run_one_way(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        wrong = imported_packages(path) & (MAY_IMPORT.keys() | {"tests"}) - MAY_IMPORT[package]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_library_names_no_modality():
    for path in (ROOT / "pvae_pyro").rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(MAY_NAME_MODALITIES):
            found = re.search(r"speech|image", path.read_text("utf-8"), re.IGNORECASE)
            assert not found, f"{name} says {found[0]}"
