"""Full disks, folders that are gone or closed, other processes: real ones, one at a time.

Each is an error that names the file, and what was whole before stays so.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pvae_pyro.data.cache import cached_arrays
from pvae_pyro.experiments import run_svi
from pvae_pyro.experiments.support import training_run
from pvae_pyro.experiments.support.command import INTERRUPTED
from pvae_pyro.io.files import append_line
from pvae_pyro.io.provenance import write_json
from pvae_pyro.training.checkpoint import CHECKPOINT, CheckpointError, previous, read_progress
from pvae_pyro.training.loop import fit
from pvae_pyro.training.records import METRICS
from tests.support.tiny import tiny_loader, tiny_speech_svi
from tests.support.tiny_run import REPOSITORY, small_corpus
from tests.support.training import metrics, snapshot


def run(folder, num_epochs=3, seed=0, loader=None, **kwargs):
    """As in tests/support/training.py, with a checkpoint of some kilobytes."""
    svi, loader = tiny_speech_svi(seed), loader or tiny_loader(names=["speech"])
    progress = fit(svi, loader, num_epochs=num_epochs, folder=folder, show_progress=False, **kwargs)
    return svi, progress


class Then:
    """A loader that does something before its eighth batch."""

    def __init__(self, action):
        self.loader, self.left, self.action = tiny_loader(names=["speech"]), 7, action

    def __len__(self):
        return len(self.loader)

    def epoch(self, epoch, start=0):
        for batch in self.loader.epoch(epoch, start):
            if self.left == 0:
                self.action()
            self.left -= 1
            yield batch


@contextlib.contextmanager
def disk(size):
    """A folder on a file system of its own, of that many bytes; skips where none may be mounted."""
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
def nobody():
    """A folder, and no rights beyond its own: root may write anywhere."""
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
    """No file of this process may become larger: a write fails in the middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_disk_that_fills_up_amid_training(tmp_path):
    """There is room for two checkpoints and not for a third; with more of it, the run resumes."""
    expected, _ = run(tmp_path, checkpoint_seconds=0.0)
    with disk(int(2.7 * (tmp_path / CHECKPOINT).stat().st_size)) as folder:
        with pytest.raises(OSError, match=f"space.*{folder / CHECKPOINT}"):
            run(folder, checkpoint_seconds=0.0)
        assert read_progress(folder / CHECKPOINT).step == 2
        assert not list(folder.rglob("*.tmp"))
        remount(folder, "size=1g")
        svi, _ = run(folder, seed=7, resume=True)
        assert metrics(folder) == metrics(tmp_path)
    assert all(map(torch.equal, snapshot(expected), snapshot(svi)))


def test_small_files_on_a_full_disk(caplog):
    with disk(64 * 1024) as folder:
        write_json(folder / "results.json", {"a": 1})
        append_line(folder / METRICS, '{"epoch": 1}')
        with contextlib.suppress(OSError), open(folder / "rest", "wb", buffering=0) as rest:
            while True:
                rest.write(bytes(4096))
        with pytest.raises(OSError, match=f"space.*{folder / 'results.json'}"):
            write_json(folder / "results.json", {"a": ["x" * 5000]})
        with pytest.raises(OSError, match=f"space.*{folder / METRICS}"):
            append_line(folder / METRICS, "y" * 5000)
        assert json.loads((folder / "results.json").read_text()) == {"a": 1}
        assert (folder / METRICS).read_text() == '{"epoch": 1}\n'
        found, _ = cached_arrays("key", lambda: ({"x": np.arange(9000)}, {}), folder)
        assert len(found["x"]) == 9000
        assert str(folder / "key.safetensors") in caplog.text
        assert sorted(p.name for p in folder.iterdir()) == [METRICS, "rest", "results.json"]


def test_a_write_that_fails_in_the_middle(tmp_path):
    """As on a full disk, without a right to mount anything."""
    run(tmp_path, num_epochs=1)
    good = {name: (tmp_path / name).read_bytes() for name in (CHECKPOINT, METRICS)}
    with largest_file(20_000), pytest.raises(OSError, match=CHECKPOINT):
        run(tmp_path, num_epochs=1, resume=True)
    with largest_file(len(good[METRICS]) + 100), pytest.raises(OSError, match=METRICS):
        append_line(tmp_path / METRICS, "y" * 5000)
    assert good == {name: (tmp_path / name).read_bytes() for name in good}
    assert not list(tmp_path.rglob("*.tmp"))


def test_folder_deleted_amid_training(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=str(folder)):
        run(folder, loader=Then(lambda: shutil.rmtree(folder)))
    assert not folder.exists()


def test_right_to_write_lost_amid_training():
    with nobody() as place:
        folder = place / "run"
        folder.mkdir()
        with pytest.raises(PermissionError, match=str(folder)):
            run(folder, loader=Then(lambda: folder.chmod(0o500)), checkpoint_seconds=0.0)
        folder.chmod(0o700)
        assert read_progress(folder / CHECKPOINT).step == 7
        assert run(folder, resume=True)[1].step == 15
        (folder / CHECKPOINT).chmod(0)
        # The checkpoint before it is not used: nothing is damaged.
        with pytest.raises(CheckpointError, match=str(folder / CHECKPOINT)):
            run(folder, resume=True)
        (folder / CHECKPOINT).chmod(0o600)
        assert read_progress(folder / CHECKPOINT).step == 15


def test_without_hard_links_one_of_two_checkpoints_is_always_there(tmp_path, monkeypatch):
    def no_links(*args):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    run(tmp_path, num_epochs=1)
    run(tmp_path, num_epochs=2, resume=True)
    assert read_progress(previous(tmp_path / CHECKPOINT)).step == 5
    (tmp_path / CHECKPOINT).unlink()  # as if killed between the two renames
    assert run(tmp_path, num_epochs=2, resume=True)[1].step == 10


# --- the cache -----------------------------------------------------------------------------------


def test_a_cache_that_may_not_be_written_is_read_and_not_filled(caplog):
    with nobody() as place:
        folder = place / "cache"
        cached_arrays("there", lambda: ({"x": np.ones(3)}, {}), folder)
        folder.chmod(0o500)
        found, _ = cached_arrays("there", lambda: pytest.fail("computed"), folder)
        assert found["x"].tolist() == [1, 1, 1]
        found, _ = cached_arrays("other", lambda: ({"x": np.ones(2)}, {}), folder)
        assert found["x"].tolist() == [1, 1]
        assert str(folder / "other.safetensors") in caplog.text
        folder.chmod(0o700)


FILL = """
import sys, time
import numpy as np
from pathlib import Path
from pvae_pyro.data import cache
folder = Path(sys.argv[1])
def compute():
    with open(folder / "computed", "a") as file:
        file.write("x")
    print("computing", flush=True)
    while not (folder / "go").exists():
        time.sleep(0.01)
    return {"x": np.arange(5)}, {}
arrays, _ = cache.cached_arrays("key", compute, folder / "cache")
print(arrays["x"].tolist(), flush=True)
"""


def filler(folder):
    """A process that fills a cache, and computes until there is a file `go`."""
    command = [sys.executable, "-c", FILL, str(folder)]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.parametrize("killed", [False, True])
def test_two_processes_fill_one_cache_and_one_computes(tmp_path, killed):
    """If the one that computes is killed, the one that waits takes over."""
    first = filler(tmp_path)
    assert first.stdout.readline() == "computing\n"
    second = filler(tmp_path)
    assert "key.safetensors" in second.stdout.readline()  # it says for what it waits
    if killed:
        first.kill()
    (tmp_path / "go").touch()
    assert ("[0, 1, 2, 3, 4]" in first.communicate()[0]) != killed
    assert "[0, 1, 2, 3, 4]" in second.communicate()[0]
    assert (tmp_path / "computed").read_text() == ("xx" if killed else "x")


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Options of a small run."""
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    return [*small_corpus(tmp_path / "data", copies=2), "--epochs", "1"]


def test_the_command_on_a_full_disk_and_where_nothing_may_be_written(corpus, capfd):
    with disk(2_000_000) as folder:
        assert run_svi.main([*corpus, "--out", str(folder / "run")]) == 1
        told = capfd.readouterr().err
        assert "Traceback" not in told
        assert "No space left" in told.splitlines()[-1]
        assert str(folder / "run") in told.splitlines()[-1]
        remount(folder, "ro")
        assert run_svi.main([*corpus, "--out", str(folder / "other")]) == 1
        told = capfd.readouterr().err
        assert "Traceback" not in told
        assert str(folder / "other") in told


def test_sigterm_outside_training(corpus, tmp_path, capsys, monkeypatch):
    def stopped(*args):
        os.kill(os.getpid(), signal.SIGTERM)

    before, out = signal.getsignal(signal.SIGTERM), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(training_run, "evaluate_latents", stopped)
        assert run_svi.main([*corpus, "--out", str(out)]) == INTERRUPTED
    assert f"--resume {out}" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (out / "results.json").exists()
    assert run_svi.main(["--resume", str(out), "--no-report"]) == 0
    assert json.loads((out / "results.json").read_text())["steps"] == 1
