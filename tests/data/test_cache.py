"""The cache returns what was computed, and computes again what is damaged."""

import logging
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from pvae_pyro.data.cache import cache_dir, cached_arrays, data_root, digest

ARRAYS = {
    "frames": np.arange(6, dtype=np.float32).reshape(3, 2),
    "transposed": np.arange(6).reshape(2, 3).T,
    "none": np.zeros((0, 4), dtype=np.int64),
}
METADATA = {"names": '["ä"]'}


@pytest.fixture
def compute() -> Mock:
    return Mock(return_value=(ARRAYS, METADATA))


def _assert_as_computed(result) -> None:
    arrays, metadata = result
    assert metadata == METADATA
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_computed_once(tmp_path: Path, compute: Mock):
    for _ in range(3):
        _assert_as_computed(cached_arrays("key", compute, tmp_path / "new" / "folder"))
    assert compute.call_count == 1
    # One file, and no unfinished one beside it.
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["key.safetensors"]


DAMAGE = {
    "cut": lambda content: content[:-5],
    "a changed byte": lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
    "changed metadata": lambda content: content.replace("ä".encode(), "ö".encode()),
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_computed_again(tmp_path: Path, compute, caplog, damage):
    cached_arrays("key", compute, tmp_path)
    path = tmp_path / "key.safetensors"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        _assert_as_computed(cached_arrays("key", compute, tmp_path))
    assert compute.call_count == 2
    assert "key.safetensors is damaged" in caplog.text
    _assert_as_computed(cached_arrays("key", compute, tmp_path))
    assert compute.call_count == 2


def test_a_result_that_cannot_be_stored_is_returned(tmp_path: Path, compute, caplog):
    (tmp_path / "file").write_text("not a folder")
    _assert_as_computed(cached_arrays("key", compute, tmp_path / "file"))
    assert "could not store" in caplog.text


def test_digest_keeps_parts_apart():
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a", "b") != digest("b", "a")
    # printf 1:a | sha256sum
    assert digest("a") == "4162fddd39a3e4225e8e2392eced237fbeb34e6e218b5647d27bd4d2b9c0da24"


def test_folders(monkeypatch: pytest.MonkeyPatch):
    for name in ("PVAE_CACHE", "XDG_CACHE_HOME", "PVAE_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert data_root() == Path("data")
    assert cache_dir() == Path("/home/someone/.cache/pvae_pyro")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/xdg/pvae_pyro")
    monkeypatch.setenv("PVAE_CACHE", "~/own")
    monkeypatch.setenv("PVAE_DATA", "/corpora")
    assert cache_dir() == Path("/home/someone/own")
    assert data_root() == Path("/corpora")


def test_what_a_killed_process_left_is_deleted(tmp_path: Path, compute: Mock):
    names = [f".{key}.safetensors.{'0a' * 16}.tmp" for key in ("key", "another")]
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    cached_arrays("key", compute, tmp_path)
    # Another process may be writing the other one.
    assert sorted(p.name for p in tmp_path.iterdir()) == [names[1], "key.safetensors"]
