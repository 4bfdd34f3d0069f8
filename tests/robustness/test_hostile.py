"""What fuzzing found, as small as it gets; bombs; and code where data should be."""

import io
import json
import os
import pickle
import shutil
import struct
import zlib
from itertools import cycle, repeat
from pathlib import Path

import joblib
import numpy as np
import pytest
import soundfile
import torch
from PIL import EpsImagePlugin, Image
from safetensors import safe_open
from safetensors.torch import load, save

from pvae_pyro.data import cache
from pvae_pyro.data.alignment.ctm import read_ctm
from pvae_pyro.data.audio.reading import read_audio
from pvae_pyro.data.corpora.manifest import manifest_corpus
from pvae_pyro.data.corpus import AudioError, CorpusError
from pvae_pyro.data.pictures import reading as pictures
from pvae_pyro.experiments import criticise, evaluate, figures, generate, report, run_svi
from pvae_pyro.experiments.support.build import build
from pvae_pyro.experiments.support.errors import RunError
from pvae_pyro.experiments.support.saved_run import load_run, read_config
from pvae_pyro.figures.curves import curves_figure, read_metrics
from pvae_pyro.figures.style import new_figure, save_figure
from pvae_pyro.report.page import read_figure
from pvae_pyro.training import checkpoint
from pvae_pyro.training.checkpoint import (
    CheckpointError,
    load_checkpoint,
    load_weights,
    previous,
    recover,
    save_checkpoint,
)
from pvae_pyro.training.loop import CHECKPOINT, _progress
from tests.robustness.fuzz.limits import can_measure, limits
from tests.robustness.fuzz.runs import CONFIGURATION, _step, _svi
from tests.robustness.fuzz.stores import (
    _ALIGNED,
    _FRAMES,
    _examples,
    _judge,
    _prepare_alignment,
    _prepare_features,
    sealed,
)

linux = pytest.mark.skipif(not can_measure(), reason="needs Linux")


# --- found by fuzzing ---------------------------------------------------------------------------


def test_floats_that_are_no_sound(tmp_path):
    """Their energies are infinite."""
    path = tmp_path / "loud.wav"
    samples = np.full(800, 0.1, np.float32)
    samples[7] = 3e38
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=rf"{path}: has samples of 3e\+38") as error:
        read_audio(path)
    assert error.value.kind == "range"
    samples[7] = 2.0  # beyond full scale, as floats may be
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    assert read_audio(path)[0].max() == 2


@pytest.mark.parametrize("start", ["4611686018427387904", "1e300", "86400"])
def test_times_beyond_any_file(tmp_path, start):
    (tmp_path / "a.ctm").write_text(f"a 1 {start} 0.22 two\nb 1 0 0.0004 x\nc 1 0 .1 y\n")
    utterances, problems = read_ctm([tmp_path / "a.ctm"])
    assert list(utterances) == ["c"]
    assert [(problem.name, problem.kind) for problem in problems] == [
        ("a", "alignment"),
        ("b", "alignment"),
    ]
    soundfile.write(tmp_path / "a.wav", np.full(800, 0.1), 16000)
    lines = [
        "path,label,speaker,split,start,end",
        f"a.wav,x,ann,train,{start},",
        "a.wav,x,b,test,,",
    ]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    (problem,) = manifest_corpus(tmp_path / "a.csv").problems
    assert problem.kind == "times"


DEEP = "[" * 100_000
NO_JSON = {
    "nested": (DEEP, "nested too deep"),
    "nested in an object": ('{"num_cells": ' + DEEP, "nested too deep"),
    "a list": ("[1]", "not a JSON object"),
    "not a number": ('{"a": NaN}', "NaN"),
    "infinite": ('{"a": -1e999}', "not a finite number"),
    "huge": ('{"a": ' + "9" * 30 + "}", "is beyond 2"),
    "half a character": ('{"a": "\\ud800"}', "surrogates"),
    "no text": (b"\xff\xfe", "utf-8"),
}


@pytest.mark.parametrize("what", NO_JSON)
def test_json_that_is_none(what, tmp_path):
    content, told = NO_JSON[what]
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(RunError, match=rf"{tmp_path} is no run that can be read: .*{told}"):
        read_config(tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(content + b"\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged in line 1"):
        read_metrics(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_cells", "4"),
        ("num_cells", True),
        ("num_cells", None),
        ("num_cells", 0),
        ("seed", -1),
        ("alpha", [1]),
        ("model", "vae"),
        ("precision", {}),
        ("trim", "yes"),
        ("classes", "abc"),
        ("classes", [1]),
        ("dataset", 7),
        ("max_frames", 0),
        ("max_frames", 1e3),
        ("sample_rate_of_features", 1),
        ("stand_in", 1),
        ("max_frames", True),
    ],
)
def test_values_that_no_option_has(tmp_path, name, value):
    config = {**CONFIGURATION, name: value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match=f"config.json: .*{name}"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIGURATION))
    assert read_config(tmp_path) == CONFIGURATION


@linux
@pytest.mark.parametrize("name", ["num_cells", "semantic_dim", "style_dim"])
@pytest.mark.parametrize("value", [20_000, 10**9, 2**62])
def test_a_number_in_a_configuration_fills_no_memory(tmp_path, name, value):
    save_checkpoint(tmp_path / CHECKPOINT, build(CONFIGURATION), {})
    (tmp_path / "config.json").write_text(json.dumps({**CONFIGURATION, name: value}))
    with limits(tmp_path, memory=100 << 20), pytest.raises(RunError, match=r"config\.json"):
        load_run(tmp_path)


def _saved(path, change=lambda tensors, header: None):
    """A checkpoint with something else in it, under a right checksum."""
    svi = _svi()
    _step(svi)
    save_checkpoint(path, svi, {})
    tensors = load(path.read_bytes())
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["pvae_pyro"])
    change(tensors, header)
    path.write_bytes(checkpoint.sealed(tensors, json.dumps(header)))


CHECKPOINTS = {
    "another shape": lambda t, h: t.update({"optim.0.exp_avg": torch.zeros(1)}),
    "many steps": lambda t, h: t.update({"optim.0.step": torch.zeros(3, 2)}),
    "no moment": lambda t, h: t.pop("optim.1.exp_avg_sq"),
    "no parameter": lambda t, h: t.update({"optim.9.step": torch.zeros(())}),
    "no number": lambda t, h: t.update({"optim.x.step": torch.zeros(())}),
    "a huge number": lambda t, h: t.update({"optim." + "9" * 5000 + ".step": torch.zeros(())}),
    "whole numbers": lambda t, h: t.update({"optim.0.step": torch.zeros((), dtype=torch.int64)}),
    "no groups": lambda t, h: h.update({"param_groups": []}),
    "other groups": lambda t, h: h["param_groups"][0].update({"params": [0]}),
    "no rate": lambda t, h: h["param_groups"][0].pop("lr"),
    "rate is text": lambda t, h: h["param_groups"][0].update({"lr": "x"}),
    "one beta": lambda t, h: h["param_groups"][0].update({"betas": [0.9]}),
    "no betas": lambda t, h: h["param_groups"][0].pop("betas"),
    "no decay": lambda t, h: h["param_groups"][0].pop("weight_decay"),
    "a huge rate": lambda t, h: h["param_groups"][0].update({"lr": 1e300}),
    "no position": lambda t, h: h.pop("progress"),
    "NaN": lambda t, h: t["model.weight"].fill_(float("nan")),
    "float64": lambda t, h: t.update({"guide.bias": t["guide.bias"].double()}),
    "no random state": lambda t, h: t.pop("rng.0.cpu"),
    "a short random state": lambda t, h: t.update({"rng.0.cpu": t["rng.0.cpu"][:9].clone()}),
}


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_checkpoints_of_something_else(what, tmp_path):
    path = tmp_path / CHECKPOINT
    _saved(path)
    load_checkpoint(path, _svi())
    _saved(path, CHECKPOINTS[what])
    state = torch.get_rng_state()
    svi = _svi()
    before = svi.optim.state_dict()
    torch.set_rng_state(state)
    with pytest.raises(CheckpointError, match=CHECKPOINT):
        load_checkpoint(path, svi)
    if "random" not in what:
        assert svi.optim.state_dict() == before
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "header",
    [
        {"__metadata__": None},
        {"__metadata__": 3},
        {},
        {"x": {"dtype": "F32", "shape": [0, 2**62, 4], "data_offsets": [0, 0]}},
        {"x": {"dtype": "F32", "shape": [0, 2**64 - 1], "data_offsets": [0, 0]}},
    ],
)
def test_headers_of_checkpoints_that_nobody_wrote(tmp_path, header):
    path = tmp_path / CHECKPOINT
    _saved(path)
    _saved(previous(path))
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(CheckpointError, match=CHECKPOINT):
        load_checkpoint(path, _svi())
    assert "going on from the one before" in recover(path)


@pytest.mark.parametrize("length", [1 << 40, (1 << 24) + 1])
def test_headers_larger_than_any_of_ours(tmp_path, length, caplog):
    content = length.to_bytes(8, "little") + b"{}" + b" " * ((1 << 24) - 1)
    path = tmp_path / "key.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"its header has {length} bytes"):
        load_checkpoint(path, _svi())
    cache.cached_arrays("key", lambda: ({"x": np.ones(3)}, {}), tmp_path)
    assert f"its header has {length} bytes" in caplog.text


def test_a_type_that_numpy_lacks_is_computed_again(tmp_path):
    header = {"x": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}
    text = json.dumps(header).encode()
    path = tmp_path / "key.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"ab")
    arrays, _ = cache.cached_arrays("key", lambda: ({"x": np.ones(3)}, {}), tmp_path)
    assert arrays["x"].tolist() == [1.0, 1.0, 1.0]


def test_a_bit_of_a_weight_that_has_changed(tmp_path):
    path = tmp_path / CHECKPOINT
    svi = _svi()
    save_checkpoint(path, svi, {})
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a whole checkpoint: its checksum differs"):
        load_weights(path, svi.model, svi.guide)


def test_checkpoints_of_before_there_was_a_checksum(tmp_path):
    path = tmp_path / CHECKPOINT
    svi = _svi()
    save_checkpoint(path, svi, {"step": 3})
    with safe_open(path, framework="pt") as file:
        header = file.metadata()["pvae_pyro"]
    path.write_bytes(save(load(path.read_bytes()), {"pvae_pyro": header}))
    assert load_checkpoint(path, _svi()) == {"step": 3}


def test_a_file_of_something_else_in_the_cache(tmp_path, caplog):
    """Its checksum is right; the judge is trained again."""
    right = _judge(tmp_path).state_dict()
    (path,) = tmp_path.iterdir()
    arrays, metadata = cache.load(path)
    name = max(arrays, key=lambda name: arrays[name].ndim)
    for spoilt in (
        {name: arrays[name]},
        {**arrays, name: arrays[name].reshape(-1)},
        {**arrays, name: arrays[name] * np.nan},
        {**arrays, name: arrays[name].astype(np.float64)},
    ):
        path.write_bytes(sealed(spoilt, {k: v for k, v in metadata.items() if k != "sha256"}))
        caplog.clear()
        found = _judge(tmp_path).state_dict()
        assert "it holds something else" in caplog.text
        assert all(torch.equal(found[key], right[key]) for key in right)
    assert len(_examples()) == 6


@pytest.mark.parametrize(
    ("prepare", "kept", "name", "values"),
    [
        (_prepare_features, _FRAMES, "lengths", [0, 13, 9]),
        (_prepare_features, _FRAMES, "index", [0, 1, 2]),
        (_prepare_features, _FRAMES, "seconds", [0.05, 0.06, -1.0]),
        (_prepare_alignment, (_ALIGNED, {"problems": "[]"}), "words", [[1, 1, 0]] * 4),
        (_prepare_alignment, (_ALIGNED, {"problems": "[]"}), "words", [[1, 2, np.nan]] * 4),
    ],
)
def test_arrays_of_the_right_shape_that_cannot_be(tmp_path, prepare, kept, name, values):
    read = prepare(tmp_path)
    read(sealed(*kept))
    (path,) = tmp_path.glob("*.safetensors")
    right = path.read_bytes()
    arrays, told = kept
    bad = sealed({**arrays, name: np.array(values, arrays[name].dtype)}, told)
    read(bad)
    assert path.read_bytes() not in (bad, right)  # computed again, of what there is


@pytest.mark.parametrize(
    "saved", [{"epoch": -1}, {"step": 1.5}, {"sums": {"elbo": "x"}}, {"other": 1}, {"batch": None}]
)
def test_a_position_that_cannot_be(tmp_path, saved):
    with pytest.raises(CheckpointError, match=f"{tmp_path} holds another position"):
        _progress(tmp_path, saved)


# --- bombs --------------------------------------------------------------------------------------


def _png(width: int, height: int, colour: int, bits: int = 8) -> bytes:
    """Zeros: a thousandth of what they unpack to."""
    each = {0: 1, 2: 3, 6: 4}[colour] * bits // 8
    packer = zlib.compressobj(1)
    row = bytes(1 + width * each)
    data = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    header = struct.pack(">2I5B", width, height, bits, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


@linux
@pytest.mark.parametrize(("size", "told"), [((60_000, 60_000), "pixels"), ((2**31 - 1, 1), "")])
def test_a_picture_that_claims_any_size(tmp_path, size, told):
    path = tmp_path / "a.png"
    content = bytearray(_png(8, 8, 6))
    content[16:24] = struct.pack(">2I", *size)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    with limits(tmp_path, memory=50 << 20), pytest.raises(CorpusError, match=f"{path}: .*{told}"):
        pictures.read_grey(path)


@linux
def test_the_largest_picture_has_no_copies(tmp_path):
    """Of 16 Mi pixels, 64 MiB as RGBA: a quarter of what is allowed, and of its memory."""
    path = tmp_path / "a.png"
    path.write_bytes(_png(4096, 4096, 6))
    with (
        limits(tmp_path, seconds=60, memory=105 << 20),
        pytest.raises(CorpusError, match="of one shade"),
    ):
        pictures.read_grey(path)


@linux
def test_a_figure_of_a_report_is_not_unpacked(tmp_path):
    path = tmp_path / "curves.png"
    path.write_bytes(_png(8, 8, 6))
    path.write_bytes(_png(8192, 8192, 6))
    with limits(tmp_path, memory=50 << 20):
        assert read_figure(path, "curves").name == "curves"


def test_a_picture_is_the_same_in_bands(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (23, 17, 4)).astype(np.uint8)
    expected = Image.alpha_composite(Image.new("RGBA", (17, 23), "white"), Image.fromarray(pixels))
    wide = rng.integers(0, 65536, (23, 17)).astype(np.uint16)
    for name, image in (("rgba", Image.fromarray(pixels)), ("wide", Image.fromarray(wide))):
        path = tmp_path / f"{name}.png"
        image.save(path)
        monkeypatch.setattr(pictures, "_BAND", 1 << 20)
        whole = pictures.read_grey(path)
        if name == "rgba":
            assert np.array_equal(whole, np.asarray(expected.convert("L")))
        else:
            assert np.array_equal(whole, np.rint(wide / 257))
        for band in (1, 17, 100):
            monkeypatch.setattr(pictures, "_BAND", band)
            assert np.array_equal(pictures.read_grey(path), whole)


# --- code ---------------------------------------------------------------------------------------


def test_postscript_is_not_run(tmp_path, monkeypatch):
    """Pillow reads it with Ghostscript, where there is one."""
    ran = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **how: ran.append(given))
    path = tmp_path / "a.png"
    Image.fromarray(np.eye(9, dtype=np.uint8) * 255).save(path, "EPS")
    with Image.open(path) as image:
        assert image.format == "EPS"
        with pytest.raises(Exception):  # noqa: B017 - it is our Ghostscript that has no picture
            image.load()
    assert len(ran) == 1
    with pytest.raises(CorpusError, match=f"{path}: is no image"):
        pictures.read_grey(path)
    assert len(ran) == 1


class _Payload:
    """Unpickled by whatever library, it makes the folder `ran`."""

    def __init__(self, ran: Path):
        self.ran = ran

    def __reduce__(self):
        return Path.mkdir, (self.ran,)


def _payloads(ran: Path) -> dict[str, bytes]:
    """Every format that runs code when it is loaded as its library would by default."""
    made = {"pickle": pickle.dumps(_Payload(ran))}
    for name, write in (
        ("torch", lambda file: torch.save({"weights": _Payload(ran)}, file)),
        ("npy", lambda file: np.save(file, np.array([_Payload(ran)], object))),
        ("npz", lambda file: np.savez(file, a=np.array([_Payload(ran)], object))),
        ("joblib", lambda file: joblib.dump(_Payload(ran), file)),
    ):
        file = io.BytesIO()
        write(file)
        made[name] = file.getvalue()
    return made


PAYLOADS = ("pickle", "torch", "npy", "npz", "joblib")


@pytest.mark.parametrize("name", PAYLOADS)
def test_payloads_do_run_where_they_are_loaded(tmp_path, name):
    """Else the tests below would show nothing."""
    content = io.BytesIO(_payloads(tmp_path / "ran")[name])
    if name == "pickle":
        pickle.load(content)
    elif name == "torch":
        torch.load(content, weights_only=False)
    elif name == "npz":
        np.load(content, allow_pickle=True)["a"]
    elif name == "npy":
        np.load(content, allow_pickle=True)
    else:
        joblib.load(content)
    assert (tmp_path / "ran").is_dir()


FILES = (
    CHECKPOINT,
    "config.json",
    "results.json",
    "evaluation.json",
    "metrics.jsonl",
    "events.out.tfevents.1.x",
    "figures/curves.png",
)
# What some program might take for its own.
BESIDE = ("checkpoint.pt", "judge.npy", "sitecustomize.py", "conftest.py", "numpy.py", "lstm.so")


@pytest.fixture(scope="module")
def given(small, environment, tmp_path_factory):
    """A run, not to be written to."""
    folder = tmp_path_factory.mktemp("given") / "run"
    options = [*small, "--epochs", "1", "--model", "vae-image", "--out", str(folder)]
    assert run_svi.main(options) == 0
    return folder


def test_no_file_of_a_run_is_run(given, tmp_path, capsys):
    _try_payloads(given, tmp_path, zip(FILES, cycle(PAYLOADS)), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_file_of_a_run_is_run_by_any_library(given, tmp_path, payload, capsys):
    _try_payloads(given, tmp_path, zip(FILES, repeat(payload)), capsys)


def _try_payloads(given, tmp_path, payloads, capsys):
    """In the place of each of a run's files, and beside them: told of, or not looked at."""
    ran = tmp_path / "ran"
    for name, payload in payloads:
        content = _payloads(ran)[payload]
        run = shutil.copytree(given, tmp_path / "runs" / name)
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_bytes(content)
        for beside in BESIDE:
            code = b"import os\nos.mkdir(" + repr(str(ran)).encode() + b")\n"
            (run / beside).write_bytes(code if beside.endswith(".py") else content)
        codes = {
            "resume": run_svi.main(["--resume", str(run), "--no-report"]),
            "evaluate": evaluate.main([str(run), "--only", "active_units"]),
            "figures": figures.main([str(run), "--only", "curves", "--formats", "png"]),
            "sample": generate.main(["sample", str(run), "--out", str(run / "made")]),
        }
        told = capsys.readouterr().err
        assert not ran.exists(), (name, codes)
        assert set(codes.values()) <= {0, 1}
        if name in (CHECKPOINT, "config.json"):
            assert set(codes.values()) == {1}, codes
            assert name in told


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_file_of_the_cache_is_run(tmp_path, payload):
    right = _judge(tmp_path / "cache").state_dict()
    (path,) = (tmp_path / "cache").iterdir()
    content = _payloads(tmp_path / "ran")[payload]
    for end in ("", ".npy", ".pt", ".pkl"):
        Path(f"{path}{end}").write_bytes(content)
    found = _judge(tmp_path / "cache").state_dict()
    assert not (tmp_path / "ran").exists()
    assert all(torch.equal(found[key], right[key]) for key in right)


@pytest.mark.parametrize("name", ["results.json", "evaluation.json"])
def test_a_damaged_score_is_told(given, tmp_path, name, capsys):
    run = shutil.copytree(given, tmp_path / "run")
    if name == "evaluation.json":
        assert evaluate.main([str(run), "--only", "active_units"]) == 0
    content = json.loads((run / name).read_text())
    for spoilt in (
        {**content, "active_units": {"z": {"image": None}}},
        {**content, "purity": {"z": {"image": 0.5, "other": 0.5}}},
        *([{**content, "test_terms": {}}] if name == "results.json" else []),
        *([{**content, "config": {}}] if name == "results.json" else []),
    ):
        (run / name).write_text(json.dumps(spoilt))
        capsys.readouterr()
        assert report.main([str(run)]) == 1
        assert f"{name} is damaged" in capsys.readouterr().err
    assert not (run / "report.html").exists()


def test_metrics_without_a_term():
    with pytest.raises(ValueError, match="no term that is drawn"):
        curves_figure([{"step": 1, "other": 2.0}])


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"[1]\n", b'{"step": "x"}\n', b"\x80\x04\n"])
def test_metrics_that_are_no_text(given, tmp_path, content, capsys):
    """Going on drops what is after the checkpoint; a figure of them is refused."""
    run = shutil.copytree(given, tmp_path / "run")
    (run / "metrics.jsonl").write_bytes(content)
    assert figures.main([str(run), "--only", "curves", "--formats", "png"]) == 1
    assert "metrics.jsonl is damaged in line 1" in capsys.readouterr().err
    (run / "metrics.jsonl").write_bytes(content * 3)
    assert run_svi.main(["--resume", str(run), "--no-report", "--epochs", "4"]) == 0
    assert (run / "metrics.jsonl").read_bytes().startswith(content.split(b"\n")[0])


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file(given, tmp_path, kind, name, capsys):
    """A pipe without a writer, and a device without an end, in the place of a run's file."""
    run = shutil.copytree(given, tmp_path / "run")
    (run / name).unlink(missing_ok=True)
    (run / name).parent.mkdir(exist_ok=True)
    if kind == "pipe":
        os.mkfifo(run / name)
    elif kind == "device":
        (run / name).symlink_to("/dev/zero")
    else:
        (run / name).mkdir()
    with limits(tmp_path, memory=1 << 30) as used:
        codes = [
            run_svi.main(["--resume", str(run), "--no-report"]),
            generate.main(["sample", str(run), "--out", str(run / "made")]),
        ]
        used.did.clear()  # a command may read the corpus, which is elsewhere
    assert set(codes) <= {0, 1}
    if name in (CHECKPOINT, "config.json"):
        assert codes == [1, 1]
        assert name in capsys.readouterr().err


@pytest.mark.parametrize("name", FILES)
def test_a_hole_of_any_size(given, tmp_path, name, capfd):
    """It takes nothing of the disk, and would take all memory."""
    run = shutil.copytree(given, tmp_path / "run")
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_bytes(b"")
    os.truncate(run / name, 1 << 43)
    codes = [
        report.main([str(run)]),
        figures.main([str(run), "--only", "curves", "--formats", "png"]),
        evaluate.main([str(run), "--only", "active_units"]),
        run_svi.main(["--resume", str(run), "--no-report"]),
    ]
    assert set(codes) <= {0, 1}
    told = capfd.readouterr().err
    if not name.startswith("events"):  # which nobody reads
        assert 1 in codes
        assert "error: " in told
        assert "it is larger than" in told
        assert name in told


def test_nothing_is_appended_to_by_a_link(given, tmp_path, capsys):
    mine = tmp_path / "mine"
    for name in ("run.log", "metrics.jsonl"):
        run = shutil.copytree(given, tmp_path / name)
        mine.write_bytes((run / name).read_bytes())
        (run / name).unlink()
        (run / name).symlink_to(mine)
        before = mine.read_bytes()
        assert run_svi.main(["--resume", str(run), "--no-report", "--epochs", "3"]) == 1
        assert mine.read_bytes() == before
        assert f"{name} is a link" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["there", "nowhere"])
def test_nothing_is_written_by_a_link_within_a_run(given, tmp_path, capsys, where):
    run = shutil.copytree(given, tmp_path / "run")
    outside = tmp_path / "outside"
    if where == "there":
        outside.mkdir()
    for name in ("figures", "generated"):
        (run / name).symlink_to(outside)
    for command, arguments, name in (
        (figures, [run, "--only", "curves"], "figures"),
        (report, [run], "figures"),
        (criticise, [run], "figures"),
        (generate, ["sample", run], "generated"),
    ):
        assert command.main([*map(str, arguments)]) == 1
        assert f"error: {run / name} is a link" in capsys.readouterr().err
    assert not outside.exists() or not list(outside.iterdir())
    assert not (run / "report.html").exists()
    # A run's folder, and one that was asked for, are links as it pleases.
    (tmp_path / "link").symlink_to(run)
    asked = ["--only", "curves", "--formats", "png", "--out", str(tmp_path / "asked")]
    (tmp_path / "asked").symlink_to(tmp_path / "mine")
    (tmp_path / "mine").mkdir()
    assert figures.main([str(tmp_path / "link"), *asked]) == 0
    assert (tmp_path / "mine" / "curves.png").exists()


def test_a_figure_replaces_a_link_and_does_not_follow_it(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "figure.svg").symlink_to(mine)
    save_figure(new_figure(1, 1), tmp_path / "figure", ["svg"])
    assert mine.read_text() == "mine"
    assert "<svg" in (tmp_path / "figure.svg").read_text()


def test_a_log_that_is_a_link_is_not_begun(small, environment, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.log").symlink_to(tmp_path / "mine")
    assert run_svi.main([*small, "--out", str(tmp_path / "run")]) == 1
    assert "run.log is a link" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links are followed there")
def test_no_file_is_made_by_a_link_for_a_lock(tmp_path):
    outside, cached = tmp_path / "outside", tmp_path / "cache"
    cached.mkdir()
    lock = cached / ".key.safetensors.lock"
    lock.symlink_to(outside)
    arrays, _ = cache.cached_arrays("key", lambda: ({"x": np.ones(2)}, {}), cached)
    assert arrays["x"].tolist() == [1, 1]
    assert not outside.exists()
    assert lock.is_symlink()


@linux
def test_a_pipe_in_the_place_of_a_lock(tmp_path):
    os.mkfifo(tmp_path / ".key.safetensors.lock")
    with limits(tmp_path):
        arrays, _ = cache.cached_arrays("key", lambda: ({"x": np.ones(2)}, {}), tmp_path)
    assert arrays["x"].tolist() == [1, 1]


@pytest.mark.parametrize("kind", ["pipe", "folder", "hole"])
def test_what_is_no_file_in_the_cache(tmp_path, kind, caplog):
    right = _judge(tmp_path).state_dict()
    (path,) = tmp_path.glob("*.safetensors")
    path.unlink()
    if kind == "hole":
        path.write_bytes(b"")
        os.truncate(path, 1 << 43)
    else:
        os.mkfifo(path) if kind == "pipe" else path.mkdir()
    with limits(tmp_path):
        found = _judge(tmp_path).state_dict()
    assert ("it is larger than" if kind == "hole" else "it is no file") in caplog.text
    assert all(torch.equal(found[key], right[key]) for key in right)
