"""The commit that results name: that of this repository, and never of a user's own."""

import subprocess

import pytest

from pvae_pyro.io import provenance


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
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    return provenance.environment()["git_commit"]


@pytest.mark.parametrize(
    "place", [".venv/lib/site-packages/pvae_pyro/io", "pvae_pyro/io", "copy/pvae_pyro/io"]
)
def test_a_repository_of_the_user_gives_no_commit(tmp_path, monkeypatch, place):
    copy = ("copy/pvae_pyro/io/provenance.py", "copy/pyproject.toml")
    files = ("thesis.tex", "pvae_pyro/io/provenance.py", *copy)
    repository(tmp_path, *files)
    assert commit_of(tmp_path / place, monkeypatch) is None


def test_the_commit_of_a_checkout(tmp_path, monkeypatch):
    ours = repository(tmp_path / "ours", "pvae_pyro/io/provenance.py", "pyproject.toml")
    package = tmp_path / "ours" / "pvae_pyro" / "io"
    assert commit_of(package, monkeypatch) == ours
    git(tmp_path / "ours", "worktree", "add", "-q", str(tmp_path / "beside"))
    assert commit_of(tmp_path / "beside" / "pvae_pyro" / "io", monkeypatch) == ours
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # as in a container
    assert commit_of(package, monkeypatch) == ours
    (package / "provenance.py").write_text("changed")
    assert commit_of(package, monkeypatch) == f"{ours}-dirty"
