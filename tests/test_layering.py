"""Imports run one way: experiments -> models, guides -> pvae_pyro. No file names are repeated."""

import ast
import re
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# folder -> folders it may import; each is imported as `pvae_pyro.<folder>`
MAY_IMPORT = {
    "pvae_pyro": set(),
    "models": {"models"},
    "guides": {"guides"},
    "experiments": {"experiments", "models", "guides"},
}
# Networks and corpora may name a modality. The rest of the library serves any.
MAY_NAME_MODALITIES = ("pvae_pyro/nn/", "pvae_pyro/data/")


def imported_folders(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    tops = {name.split(".")[0] for name in names}
    assert not tops & {"models", "guides", "experiments"}, f"{path}: as parts of pvae_pyro"
    inner = {name.split(".")[1] for name in names if name.startswith("pvae_pyro.")}
    return inner & MAY_IMPORT.keys() | tops & {"tests"}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_run_one_way(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        wrong = imported_folders(path) - MAY_IMPORT[package]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_library_names_no_modality():
    for path in (ROOT / "pvae_pyro").rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(MAY_NAME_MODALITIES):
            found = re.search(r"speech|image", path.read_text("utf-8"), re.IGNORECASE)
            assert not found, f"{name} says {found[0]}"


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "pvae_pyro" else ("pvae_pyro", *parts)
    return ".".join(parts).removesuffix(".__init__")


def test_no_circle_of_imports_and_no_two_files_of_one_name():
    files = [path for folder in MAY_IMPORT for path in (ROOT / folder).rglob("*.py")]
    modules = {module_of(path): path for path in files}
    imports: dict[str, set[str]] = {}
    for module, path in modules.items():
        found = [
            n for n in ast.parse(path.read_text("utf-8")).body if isinstance(n, ast.ImportFrom)
        ]
        names = {(n.module, f"{n.module}.{alias.name}") for n in found for alias in n.names}
        imports[module] = {full if full in modules else package for package, full in names}
    TopologicalSorter(imports).prepare()  # raises CycleError, naming the circle
    inside = [
        p for p in files if p.name != "__init__.py" and p.parts[-2] not in ("models", "guides")
    ]
    twice = [name for name, count in Counter(p.name for p in inside).items() if count > 1]
    assert twice == []
