"""Full disks, folders that are gone or closed, other processes: real ones, one at a time.

Whatever happens is told in a line that names the file, and what was whole before stays so.
"""

import contextlib
import errno
import json
import logging
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
from pvae_pyro.experiments import evaluate, run_svi
from pvae_pyro.figures.curves import read_metrics
from pvae_pyro.io import files
from pvae_pyro.io.provenance import write_json
from pvae_pyro.training.checkpoint import (
    CheckpointError,
    has_checkpoint,
    load_checkpoint,
    previous,
    read_progress,
    recover,
)
from pvae_pyro.training.loop import CHECKPOINT, METRICS, fit
from tests.conftest import REPOSITORY
from tests.support.outcomes import record
from tests.support.tiny import tiny_loader, tiny_speech_svi
from tests.support.tiny_run import small_corpus
from tests.test_svi import snapshot
from tests.training.test_loop import metrics


def run(folder, num_epochs=3, seed=0, loader=None, **kwargs):
    svi = tiny_speech_svi(seed)
    loader = loader or tiny_loader(names=["speech"])
    progress = fit(svi, loader, num_epochs=num_epochs, folder=folder, show_progress=False, **kwargs)
    return svi, progress


class Then:
    """A loader that does something before its nth batch."""

    def __init__(self, after, action):
        self.loader = tiny_loader(names=["speech"])
        self.left, self.action = after, action

    def __len__(self):
        return len(self.loader)

    def epoch(self, epoch, start=0):
        for batch in self.loader.epoch(epoch, start):
            if self.left == 0:
                self.action()
            self.left -= 1
            yield batch


@contextlib.contextmanager
def disk(size: int):
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


@contextlib.contextmanager
def nobody():
    """As a user without rights: root may write anywhere."""
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
def largest_file(size: int):
    """No file of this process may become larger: EFBIG, in the middle of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def unfinished(folder):
    return [path.name for path in folder.rglob("*.tmp")]


def test_disk_that_fills_up_amid_training(tmp_path):
    """Room for two checkpoints, metrics and events, and no third; then the run goes on."""
    (tmp_path / "whole").mkdir()
    expected, _ = run(tmp_path / "whole", checkpoint_seconds=0.0)
    size = (tmp_path / "whole" / CHECKPOINT).stat().st_size
    with disk(int(2.7 * size)) as folder:
        with pytest.raises(OSError, match=r"No space left on device: '.*/checkpoint.safe") as error:
            run(folder, checkpoint_seconds=0.0)
        assert read_progress(folder / CHECKPOINT)["step"] == 2
        assert not unfinished(folder)
        record("faults", "full disk, checkpoint", f"error, 2 steps kept, resumed: {error.value}")
        subprocess.run(["mount", "-o", "remount,size=1g", str(folder)], check=True)
        svi, _ = run(folder, seed=7, resume=True)
        assert metrics(folder) == metrics(tmp_path / "whole")
    assert all(map(torch.equal, snapshot(expected), snapshot(svi)))


def test_checkpoint_larger_than_may_be_written(tmp_path):
    """The same without a right to mount anything."""
    run(tmp_path, num_epochs=1)
    good = (tmp_path / CHECKPOINT).read_bytes()
    with largest_file(20_000), pytest.raises(OSError, match="checkpoint.safetensors"):
        run(tmp_path, num_epochs=2, resume=True)
    assert (tmp_path / CHECKPOINT).read_bytes() == good
    assert not unfinished(tmp_path)
    path = tmp_path / METRICS
    before = path.read_bytes()
    with largest_file(len(before) + 100), pytest.raises(OSError, match=METRICS):
        files.append_line(path, json.dumps({"x": "y" * 5000}))  # a part of it could be written
    assert path.read_bytes() == before
    files.append_line(path, json.dumps({"epoch": 3}))
    assert [r["epoch"] for r in read_metrics(path)] == [1, 2, 3]


def test_small_files_on_a_full_disk(tmp_path, caplog):
    with disk(64 * 1024) as folder:
        write_json(folder / "results.json", {"a": 1})
        files.append_line(folder / METRICS, json.dumps({"epoch": 1}))
        with contextlib.suppress(OSError), open(folder / "rest", "wb", buffering=0) as rest:
            while True:
                rest.write(bytes(4096))
        told = []
        for write in (
            lambda: write_json(folder / "results.json", {"a": ["x" * 5000]}),
            lambda: files.append_line(folder / METRICS, json.dumps({"epoch": 2, "x": "y" * 5000})),
        ):
            with pytest.raises(OSError, match=f"No space left on device: '{folder}") as error:
                write()
            told.append(str(error.value))
        assert json.loads((folder / "results.json").read_text()) == {"a": 1}
        assert read_metrics(folder / METRICS) == [{"epoch": 1}]
        arrays = {"x": np.arange(9000)}
        with caplog.at_level(logging.WARNING):
            found, _ = cached_arrays("key", lambda: (arrays, {}), folder)
        assert found["x"] is arrays["x"]
        assert "could not keep" in caplog.text
        assert sorted(p.name for p in folder.iterdir()) == [METRICS, "rest", "results.json"]
    record("faults", "full disk, results.json and metrics.jsonl", f"errors, old content: {told}")
    record("faults", "full disk, cache", "a warning; the result is computed each time")


def test_folder_deleted_amid_training(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"run/(metrics|checkpoint)\.") as error:
        run(folder, loader=Then(7, lambda: shutil.rmtree(folder)))
    assert not folder.exists()
    record("faults", "run folder deleted amid training", f"error: {error.value}")


def test_right_to_write_lost_amid_training():
    with nobody() as folder:
        out = folder / "run"
        out.mkdir()
        with pytest.raises(PermissionError, match=r"run/(metrics|checkpoint)\.") as error:
            run(out, loader=Then(7, lambda: out.chmod(0o500)), checkpoint_seconds=0.0)
        out.chmod(0o700)
        assert read_progress(out / CHECKPOINT)["step"] == 7
        _, progress = run(out, resume=True)
        assert progress.step == 15
        (out / CHECKPOINT).chmod(0)
        with pytest.raises(CheckpointError, match="cannot be read: Permission denied"):
            run(out, resume=True)  # and does not take the one before: nothing is damaged
        (out / CHECKPOINT).chmod(0o600)
        assert read_progress(out / CHECKPOINT)["step"] == 15
    record("faults", "right to write lost amid training", f"error, resumed later: {error.value}")
    record("faults", "checkpoint that may not be read", "error, and nothing else is taken for it")


def test_a_cache_that_may_not_be_written_is_read_and_not_filled(caplog):
    with nobody() as place:
        folder = place / "cache"
        cached_arrays("there", lambda: ({"x": np.ones(3)}, {}), folder)
        folder.chmod(0o500)
        found, _ = cached_arrays("there", lambda: pytest.fail("computed"), folder)
        assert found["x"].tolist() == [1, 1, 1]
        with caplog.at_level(logging.WARNING):
            found, _ = cached_arrays("other", lambda: ({"x": np.ones(2)}, {}), folder)
        assert found["x"].tolist() == [1, 1]
        assert "could not keep" in caplog.text
        assert [path.name for path in folder.iterdir()] == ["there.safetensors"]
        folder.chmod(0o700)
    record("faults", "read-only cache", "read where it has it, else a warning and computed anew")


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


def test_two_processes_fill_one_cache_and_one_computes(tmp_path):
    first = filler(tmp_path)
    assert first.stdout.readline() == "computing\n"
    second = filler(tmp_path)
    assert "another process computes" in second.stdout.readline()
    (tmp_path / "go").touch()
    assert "[0, 1, 2, 3, 4]" in first.communicate(timeout=600)[0]
    output, _ = second.communicate(timeout=600)
    assert "[0, 1, 2, 3, 4]" in output
    assert (tmp_path / "computed").read_text() == "x"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["key.safetensors"]
    record("faults", "two processes fill one cache", "the second waits, and reads what is kept")


def test_a_process_killed_while_it_computes_holds_nobody_up(tmp_path):
    first = filler(tmp_path)
    assert first.stdout.readline() == "computing\n"
    second = filler(tmp_path)
    assert "another process computes" in second.stdout.readline()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    (tmp_path / "go").touch()
    assert "[0, 1, 2, 3, 4]" in second.communicate(timeout=600)[0]
    assert (tmp_path / "computed").read_text() == "xx"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["key.safetensors"]
    record("faults", "a process killed while it fills the cache", "the one that waits takes over")


# --- damaged checkpoints -------------------------------------------------------------------------


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)


DAMAGE = {
    "a bit of the first": lambda path: flip(path, 0.0),
    "a bit of the header": lambda path: flip(path, 0.0005),
    "a bit of the weights": lambda path: flip(path, 0.2),
    "a bit of the last": lambda path: flip(path, 1.0),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "gone": lambda path: path.unlink(),
}


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """A run of three epochs stopped after two, with the checkpoint of one beside it."""
    folder = tmp_path_factory.mktemp("two")
    torch.manual_seed(0)
    run(folder, num_epochs=1)
    run(folder, num_epochs=2, resume=True)
    expected = tmp_path_factory.mktemp("expected")
    torch.manual_seed(0)
    svi, _ = run(expected, num_epochs=3)
    return folder, svi, metrics(expected)


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_checkpoint_is_told_and_the_one_before_taken(
    two_checkpoints, how, tmp_path, caplog
):
    made, expected, all_metrics = two_checkpoints
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    DAMAGE[how](folder / CHECKPOINT)
    assert has_checkpoint(folder / CHECKPOINT)
    with caplog.at_level(logging.WARNING):
        svi, _ = run(folder, seed=3, resume=True)
    assert "going on from the one before, of step 5" in caplog.text
    assert str(folder / CHECKPOINT) in caplog.text
    assert all(map(torch.equal, snapshot(expected), snapshot(svi)))
    assert metrics(folder) == all_metrics
    # What is left is whole, and the damaged one is kept, under another name.
    assert read_progress(folder / CHECKPOINT)["step"] == 15
    assert read_progress(previous(folder / CHECKPOINT))["step"] == 5
    assert (folder / "checkpoint-damaged.safetensors").exists() == (how != "gone")
    record("faults", f"newest checkpoint damaged: {how}", "told; the one before, to the same bits")


def test_no_damaged_checkpoint_takes_the_place_of_another(two_checkpoints, tmp_path):
    path = tmp_path / CHECKPOINT
    whole, damaged = (two_checkpoints[0] / CHECKPOINT).read_bytes(), [b"a", b"b", b"c"]
    for content in damaged:
        path.write_bytes(content)
        previous(path).write_bytes(whole)
        assert "going on from the one before" in recover(path)
        assert path.read_bytes() == whole
    names = [f"checkpoint-damaged{n}.safetensors" for n in ("", "-2", "-3")]
    assert [(tmp_path / name).read_bytes() for name in names] == damaged


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_what_cannot_be_read_now_is_not_damaged(two_checkpoints, tmp_path, number, monkeypatch):
    folder = shutil.copytree(two_checkpoints[0], tmp_path / "run")
    before, opened = sorted(folder.iterdir()), os.open

    def fail(path, *args, **kwargs):
        if path == folder / CHECKPOINT:
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(files.os, "open", fail)
    with pytest.raises(CheckpointError, match=rf"cannot be read: {os.strerror(number)}"):
        recover(folder / CHECKPOINT)
    monkeypatch.undo()
    assert sorted(folder.iterdir()) == before
    assert recover(folder / CHECKPOINT) is None


def test_two_damaged_checkpoints(two_checkpoints, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(two_checkpoints[0], folder)
    for path in (folder / CHECKPOINT, previous(folder / CHECKPOINT)):
        flip(path, 0.7)
    with pytest.raises(CheckpointError, match="previous.safetensors is not a whole"):
        recover(folder / CHECKPOINT)
    with pytest.raises(CheckpointError, match="checksum differs"):
        load_checkpoint(folder / CHECKPOINT, tiny_speech_svi())
    assert (folder / CHECKPOINT).exists()
    record("faults", "both checkpoints damaged", "error naming the file; nothing is touched")


def test_without_hard_links_there_is_always_one_of_the_two(tmp_path, monkeypatch):
    def no_links(*args):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", no_links)
    run(tmp_path, num_epochs=1)
    run(tmp_path, num_epochs=2, resume=True)
    assert read_progress(previous(tmp_path / CHECKPOINT))["step"] == 5
    (tmp_path / CHECKPOINT).unlink()  # as when it is killed between the two renames
    _, progress = run(tmp_path, num_epochs=2, resume=True)
    assert progress.step == 10
    assert not unfinished(tmp_path)


def test_a_line_that_was_being_written_is_no_record(tmp_path):
    run(tmp_path, num_epochs=2)
    with open(tmp_path / METRICS, "a") as file:
        file.write('{"epoch": 3, "step": 1')
    assert [r["epoch"] for r in read_metrics(tmp_path / METRICS)] == [1, 2]
    run(tmp_path, num_epochs=3, resume=True)
    assert [r["epoch"] for r in metrics(tmp_path)] == [1, 2, 3]


# --- the commands --------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Options of a small run; the cache is in tmp_path."""
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PVAE_OFFLINE", "1")
    (tmp_path / "data").mkdir()
    return [*small_corpus(tmp_path / "data", copies=2), "--epochs", "1"]


def test_one_folder_is_one_process_at_a_time(corpus, tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    with files.folder_held(out):  # as another process would: each opens the folder for itself
        assert run_svi.main([*corpus, "--out", str(out)]) == 1
        assert f"in use by another process, which writes there: '{out}'" in capsys.readouterr().err
    assert run_svi.main([*corpus, "--out", str(out)]) == 0
    before = (out / CHECKPOINT).read_bytes()
    capsys.readouterr()
    with files.folder_held(out):
        assert run_svi.main(["--resume", str(out), "--epochs", "2"]) == 1
        assert evaluate.main([str(out)]) == 1
        assert capsys.readouterr().err.count("in use by another process") == 2
    assert (out / CHECKPOINT).read_bytes() == before
    record("faults", "two runs in one folder", "the second ends with code 1; evaluate.py too")


def test_run_on_a_full_disk_and_where_nothing_may_be_written(corpus, tmp_path, capfd):
    with disk(2_000_000) as folder:
        assert run_svi.main([*corpus, "--num-cells", "8", "--out", str(folder / "run")]) == 1
        told = capfd.readouterr().err
        assert "error: [Errno 28] No space left on device: '" in told
        assert "Traceback" not in told
        last = told.splitlines()[-1].replace(str(folder), "…")
        record("faults", "run_svi.py on a full disk", f"code 1: {last}")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        assert run_svi.main([*corpus, "--out", str(folder / "other")]) == 1
        told = capfd.readouterr().err.replace(str(folder), "…")
        assert "Read-only file system: '…/other'" in told
        record("faults", "run_svi.py on a read-only disk", f"code 1: {told.strip()}")


def test_what_was_left_unfinished_is_a_file(tmp_path):
    left, other = (tmp_path / f".x.{letter * 32}.tmp" for letter in "ab")
    left.write_bytes(b"half")
    other.mkdir()
    files.remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == [other]


def test_sigterm_outside_training_is_told_as_ctrl_c_is(corpus, tmp_path, capsys, monkeypatch):
    def stopped(*args):
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(run_svi, "evaluate_latents", stopped)
    out = tmp_path / "run"
    assert run_svi.main([*corpus, "--out", str(out)]) == run_svi.INTERRUPTED
    assert f"to go on: python experiments/run_svi.py --resume {out}" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (out / "results.json").exists()
    monkeypatch.undo()
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))
    assert run_svi.main(["--resume", str(out), "--no-report"]) == 0
    assert json.loads((out / "results.json").read_text())["steps"] == 1


def test_a_resume_that_fails_takes_nothing_away(corpus, tmp_path, capsys):
    out = tmp_path / "run"
    assert run_svi.main([*corpus, "--out", str(out)]) == 0
    (out / "report.html").write_text("of these weights")
    for name in (CHECKPOINT, "checkpoint-previous.safetensors"):
        if (out / name).exists():
            (out / name).write_bytes((out / name).read_bytes()[:-9])
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.name != "run.log"}
    assert run_svi.main(["--resume", str(out), "--epochs", "2"]) == 1
    assert "not a whole checkpoint" in capsys.readouterr().err
    after = {path.name: path.read_bytes() for path in out.iterdir() if path.name != "run.log"}
    assert after == before


def test_best_of_the_last_epochs(tmp_path):
    """By the objective alone; the same whenever the run was stopped, and of these epochs alone."""
    folder = tmp_path / "run"
    folder.mkdir()
    run(folder, num_epochs=4, best_of=3)
    objectives = [record["objective"] for record in metrics(folder)]
    wanted = 1 + max((1, 2, 3), key=lambda n: objectives[n])
    kept = read_progress(folder / "best.safetensors")
    assert (kept["epoch"], kept["objective"]) == (wanted, objectives[wanted - 1])
    run(folder, num_epochs=9, best_of=2, resume=True)
    assert read_progress(folder / "best.safetensors")["epoch"] in (8, 9)
    run(folder, num_epochs=10, best_of=0, resume=True)
    assert not (folder / "best.safetensors").exists()


def test_best_is_not_the_last_where_the_last_is_worse(tmp_path):
    svi = tiny_speech_svi()
    update, svi.count = svi.update, 0

    def worse_and_worse(batch):
        svi.count += 1
        return {name: value - 1000.0 * svi.count for name, value in update(batch).items()}

    svi.update = worse_and_worse
    fit(
        svi,
        tiny_loader(names=["speech"]),
        num_epochs=5,
        folder=tmp_path,
        best_of=3,
        show_progress=False,
    )
    assert read_progress(tmp_path / "best.safetensors")["epoch"] == 3
    assert read_progress(tmp_path / CHECKPOINT)["epoch"] == 5


@pytest.mark.parametrize(
    ("prolonged", "expected"),
    [
        ([0, 0, 9, 1, 2], 3),  # the best from before is of the last three still, and better
        ([0, 0, 9, 1, 10], 5),  # … and not as good
        ([0, 9, 1, 2, 0], 5),  # no longer of the last three: gone, though none is as good
        ([0, 9, 1, 2, 0, 5, 3], 6),
        ([0, 0, 9, 1, 0, 0, 0, 3, 1], 8),  # nor any of those it was chosen of
    ],
)
def test_best_of_a_run_that_is_prolonged(tmp_path, prolonged, expected):
    """Of the last epochs; of those before the prolonging, that which was kept."""

    def train(num_epochs, **options):
        svi, loader = tiny_speech_svi(), tiny_loader(names=["speech"])
        update, svi.count = svi.update, len(metrics(tmp_path)) * len(loader) if options else 0

        def told(batch):
            svi.count += 1
            value = torch.tensor(float(prolonged[(svi.count - 1) // len(loader)]))
            return {**update(batch), "objective": value}

        svi.update = told
        options = {"show_progress": False, "best_of": 3, **options}
        fit(svi, loader, num_epochs=num_epochs, folder=tmp_path, **options)
        return read_progress(tmp_path / "best.safetensors")["epoch"]

    assert train(4) == 1 + max((1, 2, 3), key=lambda n: prolonged[n])
    assert train(len(prolonged), resume=True) == expected
