"""Damaged files of every kind: only documented errors, in time, in bounds, and nothing run."""

import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.robustness.fuzz import __main__ as command
from tests.robustness.fuzz.limits import Limit, can_measure, limits
from tests.robustness.fuzz.reader import Outcome, Reader, content_of, fuzz, tried
from tests.robustness.fuzz.readers import READERS

SHORT = {"configuration": 20, "judge": 15, "IDX": 40, "AN4 lists": 40}  # they take their time
FILES = 60


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "files" / "cache"))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "files"
    made.mkdir()
    return made


@pytest.mark.parametrize("name", READERS)
def test_a_few_files(name, folder):
    outcome = fuzz(READERS[name], folder, range(SHORT.get(name, FILES)))
    assert not [(f.number, f.what) for f in outcome.failures]
    assert outcome.files == outcome.read + outcome.refused
    if READERS[name].errors:
        assert outcome.refused > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_files(name):
    """As the command does; other files than those whose result is in the docs."""
    outcome = command.supervised(name, 10_000, seed=1)
    assert outcome["failures"] == []
    assert outcome["files"] == 10_000


def test_files_are_the_same_each_time_and_others_with_another_seed():
    for reader in READERS.values():
        numbers = [n for n in range(100) if reader.name != "IDX" or n % 20 == 0]
        made = [content_of(reader, 0, n) for n in numbers]
        assert [content_of(reader, 0, n) for n in reversed(numbers)] == made[::-1]
        assert any(content_of(reader, 0, n) != content_of(reader, 1, n) for n in range(3))


def _reader(read, errors=(ValueError,)) -> Reader:
    return Reader("bad", lambda folder: read, [b"good"], lambda rng, seeds: b"bad", errors, "a.x")


def _raise(error):
    def read(content):
        if content != b"good":
            raise error

    return read


def _do(action):
    def read(content):
        if content != b"good":
            action()

    return read


class _Payload:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def _loops():
    while True:
        pass


def _asks():
    with socket.socket() as asking:
        asking.settimeout(0.1)
        asking.connect(("127.0.0.1", 9))


def _refuse(content):
    raise ValueError("a.x is bad")


BAD = {
    "another error": (lambda out: _raise(KeyError("x")), "KeyError at"),
    "no name": (lambda out: _raise(ValueError("is bad")), "does not name the file"),
    "half a character": (lambda out: _raise(ValueError("a.x \udcff")), "cannot be printed"),
    "reads outside": (lambda out: _do((out / "canary").read_bytes), "left its folder"),
    "writes outside": (lambda out: _do(lambda: (out / "new").write_bytes(b"")), "left its folder"),
    "reads outside, then refuses": (
        lambda out: _do(lambda: _refuse((out / "canary").read_bytes())), "left its folder"
    ),
    "makes a folder": (lambda out: _do((out / "new").mkdir), "left its folder"),
    "unpickles": (
        lambda out: _do(lambda: pickle.loads(pickle.dumps(_Payload(out / "new")))), "find_class"
    ),
    "runs": (lambda out: _do(lambda: subprocess.run(["true"], check=True)), "subprocess.Popen"),
    "asks the network": (lambda out: _do(_asks), "socket.connect"),
    "claims what cannot be": (lambda out: _raise(AssertionError()), "AssertionError"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_no_reader_may_do_is_found(what, tmp_path, folder):
    (tmp_path / "canary").write_bytes(b"")
    make, told = BAD[what]
    outcome = fuzz(_reader(make(tmp_path)), folder, range(2))
    assert [failure.number for failure in outcome.failures] == [0, 1]
    assert all(told in failure.what for failure in outcome.failures)


def test_a_file_that_takes_too_long_is_found(folder):
    with pytest.raises(Limit, match=r"took more than 0\.2 s"), limits(folder, seconds=0.2):
        _loops()


def test_a_file_that_waits_for_ever_is_found(folder):
    """It takes no time of the processor."""
    with pytest.raises(Limit, match=r"took more than 0\.1 s"), limits(folder, seconds=0.1):
        threading.Event().wait()


@pytest.mark.skipif(not can_measure(), reason="needs Linux")
def test_a_file_that_takes_too_much_memory_is_found(folder):
    with pytest.raises(Limit, match=r"took \d+ MiB"), limits(folder, memory=50 << 20):
        np.ones(100 << 20, np.uint8)


def test_a_documented_error_is_none(folder):
    outcome = Outcome()
    assert tried(_reader(None), _raise(ValueError("a.x is bad")), folder, b"", outcome) is None
    assert (outcome.files, outcome.refused) == (1, 1)


def test_a_reader_that_refuses_good_files_shows_nothing(folder):
    with pytest.raises(ValueError, match="good file 0 is refused"):
        fuzz(_reader(lambda content: 1 / 0), folder, range(1))


@pytest.mark.slow
def test_a_process_that_dies_is_gone_on_from(tmp_path, monkeypatch):
    """At files 2 and 5 of a reader of which the process then dies."""
    script = (
        "import dataclasses, os, sys\n"
        "from tests.robustness.fuzz import reader, readers, __main__ as m\n"
        "r = readers.READERS['CTM']\n"
        "dead = [reader.content_of(r, 0, number) for number in (2, 5)]\n"
        "def prepare(folder):\n"
        "    read = r.prepare(folder)\n"
        "    def deadly(content):\n"
        "        os._exit(3) if content in dead else read(content)\n"
        "    return deadly\n"
        "readers.READERS['CTM'] = dataclasses.replace(r, prepare=prepare)\n"
        "sys.exit(m.main(sys.argv[1:]))\n"
    )
    run = subprocess.Popen

    def other(command, **kwargs):
        return run([command[0], "-c", script, *command[3:]], **kwargs)

    monkeypatch.setattr(command.subprocess, "Popen", other)
    outcome = command.supervised("CTM", 8, seed=0)
    assert outcome["failures"] == [[2, "the process died (3)"], [5, "the process died (3)"]]
    assert outcome["files"] == 8


@pytest.mark.parametrize("failures", [[], [[3, "KeyError"], [5, "KeyError"]]])
def test_a_summary(tmp_path, monkeypatch, capsys, failures):
    """What was found of other readers is kept."""
    outcome = {"files": 7, "read": 3, "refused": 2, "seconds": 0.123, "bytes": 1 << 20}
    asked = []
    monkeypatch.setattr(
        command,
        "supervised",
        lambda *given: asked.append(given) or {**outcome, "failures": failures},
    )
    out = tmp_path / "new" / "fuzz.json"
    for name in ("CTM", "PNG"):
        code = command.main(["--files", "7", "--seed", "2", "--reader", name, "--out", str(out)])
        assert code == int(bool(failures))
    assert asked == [("CTM", 7, 2), ("PNG", 7, 2)]
    content = json.loads(out.read_text())
    assert content["versions"]["torch"]
    assert content["readers"].keys() == {"CTM", "PNG"}
    assert content["readers"]["PNG"] == {
        "files": 7,
        "read": 3,
        "refused": 2,
        "failures": len(failures),
        "seconds": 0.1,
        "peak_mib_of_a_file": 1.0,
        "seed": 2,
        "git_commit": content["git_commit"],
    }
    assert ("2 × (first: 3) KeyError" in capsys.readouterr().out) == bool(failures)


@pytest.mark.slow
def test_the_command(tmp_path):
    out = tmp_path / "fuzz.json"
    options = ["--files", "20", "--reader", "CTM", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.robustness.fuzz", *options],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())["readers"]["CTM"]
    assert found["files"] == found["read"] + found["refused"] == 20
