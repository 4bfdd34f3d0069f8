"""Files that somebody else put into a run or the cache execute nothing and overwrite nothing."""

import io
import json
import pickle
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image
from safetensors.torch import load_file, save_file

from pvae_pyro.data import cache
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.pictures.decoding import read_grey
from pvae_pyro.errors import PvaeError
from pvae_pyro.experiments import run_svi
from pvae_pyro.experiments.support import saved_run
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.results import read_results
from pvae_pyro.experiments.support.saved_run import folder_within, load_run
from pvae_pyro.figures.curves import read_metrics
from pvae_pyro.training.checkpoint import (
    CHECKPOINT,
    CheckpointError,
    checkpoint_bytes,
    load_checkpoint,
    load_weights,
    read_progress,
    save_checkpoint,
)
from tests.support.tiny import tiny_speech_svi

READERS = {
    CHECKPOINT: load_run,
    "config.json": load_run,
    "results.json": lambda folder: read_results(folder / "results.json"),
    "metrics.jsonl": lambda folder: read_metrics(folder / "metrics.jsonl"),
}


@pytest.fixture
def folder(small_runs, tmp_path):
    """A copy of a finished run."""
    return shutil.copytree(small_runs["vae-image"], tmp_path / "run")


def cached(folder):
    """Ask the cache for an array; returns it, and the file where it is kept."""
    found, _ = cache.cached_arrays("key", lambda: ({"x": np.ones(2)}, {}), folder)
    assert found["x"].tolist() == [1, 1]
    return folder / "key.safetensors"


def refused(read, folder):
    with pytest.raises((PvaeError, OSError, ValueError), match=str(folder)):
        read(folder)


# --- nothing is executed -------------------------------------------------------------------------


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return Path.mkdir, (self.made,)


def test_no_file_is_unpickled(folder, tmp_path):
    made = tmp_path / "made"
    as_pickle, as_torch, as_numpy = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pickle.dump(Payload(made), as_pickle)
    torch.save({"weights": Payload(made)}, as_torch)
    np.save(as_numpy, np.array([Payload(made)], object))
    pickle.loads(as_pickle.getvalue())
    made.rmdir()  # the payload works; otherwise the test shows nothing
    for content in (as_pickle.getvalue(), as_torch.getvalue(), as_numpy.getvalue()):
        for name, read in READERS.items():
            good = (folder / name).read_bytes()
            (folder / name).write_bytes(content)
            refused(read, folder)
            (folder / name).write_bytes(good)
        cached(tmp_path).write_bytes(content)
        cached(tmp_path)
    assert not made.exists()


def test_postscript_is_not_run(tmp_path, monkeypatch):
    """Pillow would read it with Ghostscript."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: pytest.fail("was run"))
    path = tmp_path / "a.png"
    Image.fromarray(np.eye(9, dtype=np.uint8) * 255).save(path, "EPS")
    with pytest.raises(CorpusError, match=str(path)):
        read_grey(path)


# --- what is no file, and what is too large ------------------------------------------------------


def test_a_picture_that_claims_a_huge_size(tmp_path):
    header = struct.pack(">2I5B", 9_000, 9_000, 8, 6, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        content += struct.pack(">I", len(body)) + kind + body + checksum
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(CorpusError, match=r"a\.png") as error:
        read_grey(tmp_path / "a.png")
    assert error.value.kind == "size"


@pytest.mark.parametrize("value", [20_000, 2**62])
def test_a_model_larger_than_its_checkpoint_is_not_built(folder, monkeypatch, value):
    monkeypatch.setattr(saved_run, "build_model", lambda config: pytest.fail("built"))
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "semantic_dim": value}))
    with pytest.raises(RunError, match=r"config\.json"):
        load_run(folder)


# --- values that cannot be -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{"purity": {"z": {"image": 1.5}}}, {"active_units": {}}, {"config": {}}]
)
def test_impossible_scores(folder, changes):
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(results | changes))
    with pytest.raises(RunError, match=r"results\.json"):
        read_results(folder / "results.json")


CHANGES = {
    "a moment of another shape": lambda t: t.update({"optim.0.exp_avg": torch.zeros(1)}),
    "an unknown parameter": lambda t: t.update({"optim.999.step": torch.zeros(())}),
    "a missing weight": lambda t: t.pop(next(k for k in t if k.startswith("guide."))),
    "a short random state": lambda t: t.update({"rng.0.cpu": t["rng.0.cpu"][:9].clone()}),
}


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint after one step, so that the optimiser has a state."""
    svi = tiny_speech_svi()
    for parameter in svi.parameters():
        parameter.grad = torch.ones_like(parameter)
    svi.optim.step()
    save_checkpoint(tmp_path / CHECKPOINT, svi, {"step": 3})
    return tmp_path / CHECKPOINT


@pytest.mark.parametrize("change", CHANGES)
def test_another_models_checkpoint_with_a_right_checksum(checkpoint, change):
    assert load_checkpoint(checkpoint, tiny_speech_svi()).step == 3
    tensors = load_file(checkpoint)
    CHANGES[change](tensors)
    checkpoint.write_bytes(checkpoint_bytes(tensors, '{"progress": {}}'))
    with pytest.raises(CheckpointError, match=CHECKPOINT):
        load_checkpoint(checkpoint, tiny_speech_svi())


@pytest.mark.parametrize("progress", [{"epoch": -1}, {"step": 1.5}, {"batch": None}, None])
def test_impossible_positions(checkpoint, progress):
    checkpoint.write_bytes(
        checkpoint_bytes(load_file(checkpoint), json.dumps({"progress": progress}))
    )
    with pytest.raises(CheckpointError, match=CHECKPOINT):
        read_progress(checkpoint)


def test_one_flipped_bit_of_a_weight(checkpoint):
    content = bytearray(checkpoint.read_bytes())
    content[-2] ^= 1
    checkpoint.write_bytes(content)
    svi = tiny_speech_svi()
    with pytest.raises(CheckpointError, match=CHECKPOINT):
        load_weights(checkpoint, svi.model, svi.guide)


def test_a_checkpoint_of_an_earlier_version_without_a_checksum_is_read(checkpoint):
    save_file(load_file(checkpoint), checkpoint, {"pvae_pyro": '{"progress": {"step": 3}}'})
    assert load_checkpoint(checkpoint, tiny_speech_svi()).step == 3


# --- links ---------------------------------------------------------------------------------------


def resume(folder):
    return run_svi.main(["--resume", str(folder), "--no-report", "--epochs", "3"])


@pytest.mark.parametrize("name", ["run.log", "metrics.jsonl"])
def test_nothing_is_appended_through_a_link(folder, environment, tmp_path, name, capsys):
    target = (folder / name).rename(tmp_path / "target")
    (folder / name).symlink_to(target)
    before = target.read_bytes()
    assert resume(folder) == 1
    assert str(folder / name) in capsys.readouterr().err
    assert target.read_bytes() == before


def test_nothing_is_written_into_a_folder_that_is_a_link(tmp_path):
    (tmp_path / "figures").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RunError, match=str(tmp_path / "figures")):
        folder_within(tmp_path, "figures")
