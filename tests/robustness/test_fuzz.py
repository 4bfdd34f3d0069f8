"""Damaged files of every kind raise documented errors alone, and execute nothing."""

import os
import pickle
import subprocess

import pytest

from tests.robustness.fuzz import Guard, fuzz
from tests.robustness.readers import READERS

linux = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux")


@linux
@pytest.mark.parametrize("name", READERS)
def test_a_few_files(name, tmp_path):
    found = fuzz(name, 40, seed=0, keep=tmp_path)
    assert not found["failures"], [(tmp_path / of).read_text() for of in found["failures"]]
    assert found["read"] + found["refused"] == 40
    assert (found["refused"] > 0) == bool(READERS[name].errors)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_files(name, tmp_path):
    found = fuzz(name, 10_000, seed=1, keep=tmp_path)
    assert not found["failures"], [(tmp_path / of).read_text() for of in found["failures"][:3]]


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_what_no_reader_may_do_is_noticed(tmp_path):
    """Else the tests above would show nothing."""
    guard, inner, content = Guard(), tmp_path / "inner", pickle.dumps(Payload(tmp_path / "made"))
    inner.mkdir()
    for act, noticed in (
        (lambda: (inner / "mine").write_bytes(b""), False),
        (lambda: (tmp_path / "theirs").write_bytes(b""), True),
        (lambda: pickle.loads(content), True),
        (lambda: subprocess.run(["true"], check=True), True),
    ):
        guard.folder, guard.seen = str(inner), []
        act()
        guard.folder = None
        assert bool(guard.seen) == noticed
