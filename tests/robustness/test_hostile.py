"""What strangers may put in the place of a run's files, and of the cache's."""

import io
import json
import os
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
from pvae_pyro.experiments.support.build import build
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.results import read_results
from pvae_pyro.experiments.support.saved_run import folder_within, load_run, read_config
from pvae_pyro.figures.curves import read_metrics
from pvae_pyro.training.checkpoint import (
    CHECKPOINT,
    CheckpointError,
    load_checkpoint,
    load_weights,
    read_progress,
    save_checkpoint,
    sealed,
)  # fmt: skip
from tests.robustness.readers import CONFIGURATION, RESULT
from tests.support.tiny import tiny_speech_svi

READ = {
    CHECKPOINT: lambda folder: load_run(folder),
    "config.json": lambda folder: load_run(folder),
    "results.json": lambda folder: read_results(folder / "results.json"),
    "metrics.jsonl": lambda folder: read_metrics(folder / "metrics.jsonl"),
}
DOCUMENTED = (PvaeError, OSError, ValueError)


@pytest.fixture
def folder(tmp_path):
    """A run's folder, as it is read."""
    folder = tmp_path / "run"
    folder.mkdir()
    save_checkpoint(folder / CHECKPOINT, build(CONFIGURATION), {})
    (folder / "config.json").write_text(CONFIGURATION.model_dump_json())
    (folder / "results.json").write_text(json.dumps(RESULT))
    (folder / "metrics.jsonl").write_text('{"step": 1, "objective": -1.0}\n')
    for read in READ.values():
        read(folder)
    return folder


@pytest.fixture(scope="module")
def trained(small, environment, tmp_path_factory):
    """A run of the command, not to be written to."""
    out = tmp_path_factory.mktemp("trained") / "run"
    options = [*small, "--epochs", "1", "--model", "vae-image", "--out", str(out)]
    assert run_svi.main(options) == 0
    return out


# --- nothing is executed -------------------------------------------------------------------------


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, ran):
        self.ran = ran

    def __reduce__(self):
        return Path.mkdir, (self.ran,)


def payload(kind, ran):
    """A file that executes something if it is loaded as its library once did by default."""
    file = io.BytesIO()
    if kind == "pickle":
        pickle.dump(Payload(ran), file)
    elif kind == "torch":
        torch.save({"weights": Payload(ran)}, file)
    else:
        np.save(file, np.array([Payload(ran)], object))
    return file.getvalue()


LOADERS = {
    "pickle": pickle.load,
    "torch": lambda file: torch.load(file, weights_only=False),
    "npy": lambda file: np.load(file, allow_pickle=True),
}


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("name", READ)
def test_no_file_of_a_run_is_executed(folder, tmp_path, name, kind):
    ran = tmp_path / "ran"
    content = payload(kind, ran)
    LOADERS[kind](io.BytesIO(content))
    ran.rmdir()  # it was made: else the test would show nothing
    (folder / name).write_bytes(content)
    for beside in ("checkpoint.pt", "weights.npy", "sitecustomize.py"):
        (folder / beside).write_bytes(content)
    with pytest.raises(DOCUMENTED, match=str(folder)):
        READ[name](folder)
    assert not ran.exists()


def test_no_file_of_the_cache_is_executed(tmp_path):
    for kind in LOADERS:
        (tmp_path / "key.safetensors").write_bytes(payload(kind, tmp_path / "ran"))
        found, _ = cache.cached_arrays("key", lambda: ({"x": np.ones(2)}, {}), tmp_path)
        assert found["x"].tolist() == [1, 1]
        assert not (tmp_path / "ran").exists()


def test_postscript_is_not_run(tmp_path, monkeypatch):
    """Pillow reads it with Ghostscript."""
    ran = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **how: ran.append(given))
    path = tmp_path / "a.png"
    Image.fromarray(np.eye(9, dtype=np.uint8) * 255).save(path, "EPS")
    with pytest.raises(CorpusError, match=str(path)):
        read_grey(path)
    assert not ran


# --- what is no file, and what is too large ------------------------------------------------------


def place(path, kind):
    """A pipe without a writer, a device or a file without an end, a folder."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 1 << 43)  # a hole, which takes nothing of the disk


KINDS = ("pipe", "device", "folder", "hole")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READ)
def test_what_is_no_file_is_refused(folder, name, kind):
    place(folder / name, kind)
    with pytest.raises(DOCUMENTED, match=str(folder)):
        READ[name](folder)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_in_the_cache_is_not_read(tmp_path, kind, caplog):
    place(tmp_path / "key.safetensors", kind)
    found, _ = cache.cached_arrays("key", lambda: ({"x": np.ones(2)}, {}), tmp_path)
    assert found["x"].tolist() == [1, 1]
    assert str(tmp_path / "key.safetensors") in caplog.text


def test_a_picture_that_claims_any_size(tmp_path):
    header = struct.pack(">2I5B", 9_000, 9_000, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b""))
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
    )
    with pytest.raises(CorpusError, match="a.png") as error:
        read_grey(tmp_path / "a.png")
    assert error.value.kind == "size"


@pytest.mark.parametrize("value", [20_000, 10**9, 2**62])
@pytest.mark.parametrize("name", ["num_cells", "semantic_dim", "style_dim"])
def test_a_configuration_of_a_model_larger_than_its_checkpoint_is_not_built(
    folder, monkeypatch, name, value
):
    monkeypatch.setattr(saved_run, "build_model", lambda config: pytest.fail("built"))
    content = json.loads(CONFIGURATION.model_dump_json())
    (folder / "config.json").write_text(json.dumps({**content, name: value}))
    with pytest.raises(RunError, match=r"config\.json"):
        load_run(folder)


# --- values that cannot be -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"[1]", b'{"a": NaN}', b"\xff\xfe", b"", b'{"num_cells": 4'],
    ids=["nested", "list", "NaN", "no text", "empty", "no end"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["config.json", "results.json", "metrics.jsonl"])
def test_what_is_no_json(folder, name, content):
    (folder / name).write_bytes(content + b"\n" * (name == "metrics.jsonl"))
    with pytest.raises(DOCUMENTED, match=str(folder)):
        READ[name](folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("num_cells", "4"), ("num_cells", True), ("num_cells", None), ("num_cells", 0)),
        *(("seed", -1), ("alpha", [1]), ("model", "vae"), ("precision", {}), ("trim", "yes")),
        *(("classes", "abc"), ("dataset", 7), ("max_frames", 0), ("stand_in", 1)),
    ],
)
def test_values_that_no_option_has(folder, name, value):
    content = json.loads(CONFIGURATION.model_dump_json())
    (folder / "config.json").write_text(json.dumps({**content, name: value}))
    with pytest.raises(RunError, match=r"config\.json") as error:
        read_config(folder)
    assert name.replace("_", "-") in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"active_units": {"z_sem": {"image": None}}},
        {"purity": {"z_sem": {"image": 1.5}}},
        {"purity": {"z": {"image": 0.5, "other": 0.5}}},
        {"config": {}},
    ],
)
def test_scores_that_cannot_be(folder, changes):
    (folder / "results.json").write_text(json.dumps(RESULT | changes))
    with pytest.raises(RunError, match=r"results\.json"):
        read_results(folder / "results.json")


# --- checkpoints ---------------------------------------------------------------------------------

OTHERS = {
    "another shape": lambda t: t.update({"optim.0.exp_avg": torch.zeros(1)}),
    "whole numbers": lambda t: t.update({"optim.0.step": torch.zeros((), dtype=torch.int64)}),
    "a part of a state": lambda t: t.pop("optim.1.exp_avg_sq"),
    "no parameter": lambda t: t.update({"optim.999.step": torch.zeros(())}),
    "NaN": lambda t: next(v for k, v in t.items() if k.startswith("model.")).fill_(float("nan")),
    "no weight": lambda t: t.pop(next(k for k in t if k.startswith("guide."))),
    "a short random state": lambda t: t.update({"rng.0.cpu": t["rng.0.cpu"][:9].clone()}),
}


@pytest.fixture
def path(tmp_path):
    """A checkpoint after a step, and so with a state of the optimiser."""
    svi = tiny_speech_svi()
    for parameter in svi.parameters():
        parameter.grad = torch.ones_like(parameter)
    svi.optim.step()
    save_checkpoint(tmp_path / CHECKPOINT, svi, {"step": 3})
    return tmp_path / CHECKPOINT


@pytest.mark.parametrize("what", OTHERS)
def test_checkpoints_of_something_else_under_a_right_checksum(path, what):
    assert load_checkpoint(path, tiny_speech_svi()).step == 3
    tensors = load_file(path)
    OTHERS[what](tensors)
    path.write_bytes(sealed(tensors, '{"progress": {}}'))
    with pytest.raises(CheckpointError, match=CHECKPOINT):
        load_checkpoint(path, tiny_speech_svi())


@pytest.mark.parametrize(
    "progress", [{"epoch": -1}, {"step": 1.5}, {"sums": {"elbo": "x"}}, {"batch": None}, None]
)
def test_positions_that_no_run_has(path, progress):
    path.write_bytes(sealed(load_file(path), json.dumps({"progress": progress})))
    with pytest.raises(CheckpointError, match=CHECKPOINT):
        read_progress(path)


@pytest.mark.parametrize(
    "header",
    [
        {"__metadata__": 3},
        {"x": {"dtype": "F32", "shape": [0, 2**62, 4], "data_offsets": [0, 0]}},
        1 << 40,  # bytes that it says it has
    ],
)
def test_headers_that_nobody_wrote(path, header):
    text = b"{}" if isinstance(header, int) else json.dumps(header).encode()
    size = header if isinstance(header, int) else len(text)
    path.write_bytes(size.to_bytes(8, "little") + text)
    with pytest.raises(CheckpointError, match=CHECKPOINT):
        read_progress(path)


def test_a_bit_of_a_weight_that_has_changed(path):
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    svi = tiny_speech_svi()
    with pytest.raises(CheckpointError, match=CHECKPOINT):
        load_weights(path, svi.model, svi.guide)


def test_a_checkpoint_of_before_there_was_a_checksum_is_read(path):
    save_file(load_file(path), path, {"pvae_pyro": '{"progress": {"step": 3}}'})
    assert load_checkpoint(path, tiny_speech_svi()).step == 3


# --- links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run.log", "metrics.jsonl"])
def test_nothing_is_appended_through_a_link(trained, tmp_path, name, capsys):
    run, mine = shutil.copytree(trained, tmp_path / "run"), tmp_path / "mine"
    (run / name).rename(mine)
    (run / name).symlink_to(mine)
    before = mine.read_bytes()
    assert run_svi.main(["--resume", str(run), "--no-report", "--epochs", "3"]) == 1
    assert str(run / name) in capsys.readouterr().err
    assert mine.read_bytes() == before


def test_nothing_is_written_into_a_folder_that_is_a_link(tmp_path):
    (tmp_path / "figures").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RunError, match=str(tmp_path / "figures")):
        folder_within(tmp_path, "figures")


def test_a_file_that_is_written_whole_replaces_a_link(trained, tmp_path):
    run, mine = shutil.copytree(trained, tmp_path / "run"), tmp_path / "mine"
    mine.write_text("mine")
    for name in (CHECKPOINT, "config.json", "results.json"):
        (run / name).rename(tmp_path / name)
        (run / name).symlink_to(tmp_path / name)
    before = {name: (tmp_path / name).read_bytes() for name in (CHECKPOINT, "config.json")}
    assert run_svi.main(["--resume", str(run), "--no-report", "--epochs", "3"]) == 0
    assert not (run / CHECKPOINT).is_symlink()
    assert before == {name: (tmp_path / name).read_bytes() for name in before}


@pytest.mark.parametrize("to", ["nowhere", "mine"])
def test_no_file_is_made_through_a_link_for_a_lock(tmp_path, to):
    """Of the names that a lock may have in the cache, and next to what it is for."""
    (tmp_path / "mine").write_text("mine")
    folder = tmp_path / "cache"
    folder.mkdir()
    for name in (".key.safetensors.lock", "key.safetensors.lock"):
        (folder / name).symlink_to(tmp_path / to)
    found, _ = cache.cached_arrays("key", lambda: ({"x": np.ones(2)}, {}), folder)
    assert found["x"].tolist() == [1, 1]
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
