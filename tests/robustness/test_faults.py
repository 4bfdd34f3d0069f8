"""Full disks, deleted or read-only folders, other processes: errors name the file, and what was
whole before stays whole."""

import contextlib
import json
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from pvae_pyro.data.cache import cached_arrays
from pvae_pyro.experiments import run_svi
from pvae_pyro.experiments.support import scored_training
from pvae_pyro.experiments.support.command import INTERRUPTED
from pvae_pyro.io.files import write_whole
from pvae_pyro.io.provenance import write_json
from pvae_pyro.training.checkpoint import CHECKPOINT, CheckpointError, read_progress
from pvae_pyro.training.records import METRICS
from tests.support import training
from tests.support.tiny import tiny_loader, tiny_speech_svi
from tests.support.tiny_run import small_corpus
from tests.support.training import BeforeBatch, metrics, snapshot


def loader():
    return tiny_loader(names=["speech"])


def run(folder, seed=0, batches=None, **options):
    """Five steps an epoch; a checkpoint has some kilobytes."""
    return training.run(folder, loader=batches or loader(), svi=tiny_speech_svi(seed), **options)


@contextlib.contextmanager
def disk(size):
    """A folder on a file system of `size` bytes; skips where no file system may be mounted."""
    with tempfile.TemporaryDirectory() as name:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "tmpfs", name]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no file system may be mounted here")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


def remount(folder, option):
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


@contextlib.contextmanager
def unprivileged():
    """A folder, and the rights of an ordinary user: root may write anywhere."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        if user == 0:
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            os.seteuid(user)


@contextlib.contextmanager
def largest_file(size):
    """No file of this process may become larger: a write fails halfway."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_disk_that_fills_up_during_training(tmp_path):
    """A new checkpoint needs room beside the old one; given more room, the run resumes."""
    expected, _ = run(tmp_path, checkpoint_seconds=0.0)
    with disk(int(1.7 * (tmp_path / CHECKPOINT).stat().st_size)) as folder:
        with pytest.raises(OSError, match=f"space.*{folder / CHECKPOINT}"):
            run(folder, checkpoint_seconds=0.0)
        assert read_progress(folder / CHECKPOINT).step == 1
        assert not list(folder.rglob("*.tmp"))
        remount(folder, "size=1g")
        svi, _ = run(folder, seed=7, resume=True)
        assert metrics(folder) == metrics(tmp_path)
    assert all(map(torch.equal, snapshot(expected), snapshot(svi)))


def test_small_files_on_a_full_disk(caplog):
    with disk(64 * 1024) as folder:
        results = folder / "results.json"
        write_json(results, {"a": 1})
        with contextlib.suppress(OSError), open(folder / "rest", "wb", buffering=0) as rest:
            while True:
                rest.write(bytes(4096))
        with pytest.raises(OSError, match=f"space.*{results}"):
            write_json(results, {"a": ["x" * 5000]})
        assert json.loads(results.read_text()) == {"a": 1}
        found, _ = cached_arrays("key", lambda: ({"x": np.arange(9000)}, {}), folder)
        assert len(found["x"]) == 9000
        assert str(folder / "key.safetensors") in caplog.text
        assert sorted(path.name for path in folder.iterdir()) == ["rest", "results.json"]


def test_a_write_that_fails_halfway(tmp_path):
    """As on a full disk, where no file system may be mounted."""
    run(tmp_path, num_epochs=1)
    good = {name: (tmp_path / name).read_bytes() for name in (CHECKPOINT, METRICS)}
    with largest_file(20_000), pytest.raises(OSError, match=CHECKPOINT):
        run(tmp_path, num_epochs=1, resume=True)
    with largest_file(len(good[METRICS]) + 100), pytest.raises(OSError, match=METRICS):
        write_whole(tmp_path / METRICS, b"y" * 5000)
    assert good == {name: (tmp_path / name).read_bytes() for name in good}
    assert not list(tmp_path.rglob("*.tmp"))


def test_folder_that_becomes_read_only_during_training():
    with unprivileged() as place:
        folder = place / "run"
        folder.mkdir()
        batches = BeforeBatch(loader(), 7, partial(folder.chmod, 0o500))
        with pytest.raises(PermissionError, match=str(folder)):
            run(folder, batches=batches, checkpoint_seconds=0.0)
        folder.chmod(0o700)
        assert read_progress(folder / CHECKPOINT).step == 7
        assert run(folder, resume=True)[1].step == 15
        (folder / CHECKPOINT).chmod(0)
        with pytest.raises(CheckpointError, match=str(folder / CHECKPOINT)):
            run(folder, resume=True)
        (folder / CHECKPOINT).chmod(0o600)
        assert read_progress(folder / CHECKPOINT).step == 15


# --- the cache -----------------------------------------------------------------------------------


def test_a_read_only_cache_is_read_and_not_filled(caplog):
    with unprivileged() as place:
        folder = place / "cache"
        cached_arrays("there", lambda: ({"x": np.ones(3)}, {}), folder)
        folder.chmod(0o500)
        found, _ = cached_arrays("there", lambda: pytest.fail("computed"), folder)
        assert found["x"].tolist() == [1, 1, 1]
        found, _ = cached_arrays("other", lambda: ({"x": np.ones(2)}, {}), folder)
        assert found["x"].tolist() == [1, 1]
        assert str(folder / "other.safetensors") in caplog.text
        folder.chmod(0o700)


def fill_cache(folder):
    """The target of a process: compute an array until there is a file `go`; log to `log`."""
    logging.basicConfig(filename=folder / "log", force=True)

    def compute():
        with open(folder / "computed", "a") as file:
            file.write(f"{os.getpid()}\n")
        while not (folder / "go").exists():
            time.sleep(0.01)
        return {"x": np.arange(5)}, {}

    arrays, _ = cached_arrays("key", compute, folder / "cache")
    assert arrays["x"].tolist() == [0, 1, 2, 3, 4]


def await_text(path, text):
    for _ in range(6000):
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.01)
    pytest.fail(f"{path} does not come to hold {text!r}")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("killed", [False, True])
def test_of_two_processes_that_fill_a_cache_one_computes(tmp_path, killed):
    """If the one that computes is killed, the one that waits takes over."""
    fork = multiprocessing.get_context("fork")  # nothing is imported again
    first, second = (fork.Process(target=fill_cache, args=(tmp_path,)) for _ in range(2))
    first.start()
    await_text(tmp_path / "computed", "\n")
    second.start()
    await_text(tmp_path / "log", "waiting")
    if killed:
        first.kill()
    (tmp_path / "go").touch()
    for process in (first, second):
        process.join(60)
    assert (first.exitcode, second.exitcode) == (-signal.SIGKILL if killed else 0, 0)
    assert len((tmp_path / "computed").read_text().splitlines()) == 1 + killed


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Options of a small run."""
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    return [*small_corpus(tmp_path / "data", copies=2), "--epochs", "1"]


def test_the_command_on_a_full_disk_and_on_a_read_only_one(corpus, capfd):
    with disk(2_000_000) as folder:
        for name, reason in (("run", "No space left"), ("other", "")):
            assert run_svi.main([*corpus, "--out", str(folder / name)]) == 1
            printed = capfd.readouterr().err
            assert "Traceback" not in printed
            assert reason in printed.splitlines()[-1]
            assert str(folder / name) in printed.splitlines()[-1]
            remount(folder, "ro")


def test_sigterm_outside_training(corpus, tmp_path, capsys, monkeypatch):
    before, out = signal.getsignal(signal.SIGTERM), tmp_path / "run"
    with monkeypatch.context() as patch:
        stop = lambda *args: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
        patch.setattr(scored_training, "evaluate_latents", stop)
        assert run_svi.main([*corpus, "--out", str(out)]) == INTERRUPTED
    assert f"--resume {out}" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (out / "results.json").exists()
    assert run_svi.main(["--resume", str(out), "--no-report"]) == 0
    assert json.loads((out / "results.json").read_text())["steps"] == 1
