"""Every reader of files that may come from strangers: good files, and how they are read."""

import gzip
import io
import json
import os
import random
import re
import shutil
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import safetensors.numpy
import soundfile
import torch
from PIL import Image

from pvae_pyro.data import cache
from pvae_pyro.data.alignment.ctm import read_ctm
from pvae_pyro.data.alignment.transcripts import read_transcripts
from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.audio.reading import read_audio
from pvae_pyro.data.corpora.manifest import manifest_corpus, manifest_images
from pvae_pyro.data.corpus import AudioError, CorpusError, Recording, SpeechCorpus
from pvae_pyro.data.download import unpack
from pvae_pyro.data.features import corpus_features
from pvae_pyro.data.pictures.decoding import read_grey
from pvae_pyro.experiments.evaluate import EVALUATION, FORMAT, measured_before
from pvae_pyro.experiments.support.build import build
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.config import Options
from pvae_pyro.experiments.support.results import read_results
from pvae_pyro.experiments.support.saved_run import CONFIG, RESULTS, load_run
from pvae_pyro.figures.curves import read_metrics
from pvae_pyro.report.page import read_figure
from pvae_pyro.training.checkpoint import (
    CHECKPOINT,
    CheckpointError,
    load_checkpoint,
    load_extra,
    read_config,
    save_checkpoint,
    sealed,
)  # fmt: skip
from pvae_pyro.training.records import METRICS
from tests.robustness.damage import (
    changed_arrays,
    changed_bytes,
    changed_json,
    changed_lines,
    changed_value,
)  # fmt: skip
from tests.support.archives import special, tar_gz
from tests.support.sphere import sphere
from tests.support.tiny import tiny_speech_svi


@dataclass(frozen=True)
class Reader:
    """file: what it is called, in a folder of its own.

    good: folder -> the contents of good files; it may put other files into the folder.
    read: path -> nothing, or one of `errors`; AssertionError if what was read cannot be.
    change: makes one of several good contents bad.
    """

    file: str
    good: Callable[[Path], list[bytes]]
    read: Callable[[Path], object]
    errors: tuple[type[Exception], ...] = ()
    change: Callable[[random.Random, Sequence[bytes]], bytes] = changed_bytes


# --- sounds and pictures -------------------------------------------------------------------------


def _sounds(folder: Path) -> list[bytes]:
    noise = np.random.default_rng(0).normal(0, 0.1, 3200)
    kinds = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("AIFF", "PCM_16")]
    kinds += [("AU", "ULAW"), ("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS")]
    made = []
    for container, subtype in kinds:
        file = io.BytesIO()
        soundfile.write(file, noise, 16000, subtype, format=container)
        made.append(file.getvalue())
    return made


def _spheres(folder: Path) -> list[bytes]:
    samples = (np.random.default_rng(0).normal(size=700) * 3000).astype(np.int16)
    return [
        sphere(samples, 20_000),
        sphere(samples, 20_000, byte_order="10", sample_checksum=None),
        sphere(samples, 20_000, coding="shorten"),
        sphere(samples, 20_000, coding="shorten", sample_checksum=None),
    ]


def _read_sound(path: Path) -> None:
    samples, rate = read_audio(path)
    assert (samples.ndim, samples.dtype) == (1, np.float32)
    assert samples.any()
    assert np.isfinite(samples).all()
    assert 4000 <= rate <= 192_000


def _pictures(folder: Path) -> list[bytes]:
    grey = np.random.default_rng(2).integers(200, 255, (24, 30)).astype(np.uint8)
    grey[6:20, 10:14] = 20
    made = []
    for kind, mode in (
        *(("PNG", "L"), ("PNG", "RGBA"), ("PNG", "P"), ("JPEG", "RGB"), ("GIF", "P")),
        *(("BMP", "RGB"), ("TIFF", "L"), ("WEBP", "RGB"), ("PPM", "L")),
    ):
        file = io.BytesIO()
        Image.fromarray(grey).convert(mode).save(file, kind)
        made.append(file.getvalue())
    return made


def _read_picture(path: Path) -> None:
    pixels = read_grey(path)
    assert (pixels.ndim, pixels.dtype) == (2, np.uint8)


def _figures(folder: Path) -> list[bytes]:
    return _pictures(folder)[:3]


# --- lists of files ------------------------------------------------------------------------------


def _beside(folder: Path) -> None:
    """Good files, a link out of the folder, one that leads to itself, and a pipe."""
    (folder / "sub").mkdir()
    for name, content in (("good", _sounds(folder)[0]), ("sub/fine", _spheres(folder)[0])):
        (folder / f"{name}.wav").write_bytes(content)
        (folder / f"{name}.png").write_bytes(_pictures(folder)[0])
    (folder / "link").symlink_to(folder.parent)
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")


def _manifests(folder: Path) -> list[bytes]:
    _beside(folder)
    return [
        b"path,label,speaker,split,start,end\ngood.wav,one,ann,train,0.01,0.04\n"
        b"good.wav,two,ann,train,0.05,0.09\nsub/fine.wav,one,bob,test,,\n",
        b'path,label,speaker,split\n"good.wav","o,ne",ann,train\nsub/fine.wav,two,bob,TEST\n',
    ]


def _read_manifest(path: Path) -> None:
    for recording in manifest_corpus(path).recordings:
        assert recording.label
        assert recording.split in ("train", "test")
        try:
            recording.read()
        except AudioError as error:
            assert str(path.parent) in str(error)  # noqa: PT017


def _image_manifests(folder: Path) -> list[bytes]:
    _beside(folder)
    return [b"path,label,split\ngood.png,one,train\nsub/fine.png,one,test\n"]


def _transcripts(folder: Path) -> list[bytes]:
    _beside(folder)
    return [b"path,speaker,split,transcript\ngood.wav,ann,train,one two.\nsub/fine.wav,b,test,oh\n"]


def _ctms(folder: Path) -> list[bytes]:
    return [b";; a comment\nac_1a A 0.00 0.31 one 0.9\nac_1a A 0.31 0.22 two\nbc_2b 1 0.1 .2 oh\n"]


def _archives(folder: Path) -> list[bytes]:
    link = special(tarfile.SYMTYPE, "top/b.wav")
    link.linkname = "../../.."
    good = tar_gz(("top/a.wav", b"first"), ("top/deep/b.wav", bytes(600)), ("top/readme", b"text"))
    return [good, tar_gz((link, b""), ("top/b.wav/c.wav", b"through it"))]


def _change_archive(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Other bytes, in the archive or before it is packed; headers have right checksums again."""
    if rng.random() < 0.2:
        return changed_bytes(rng, seeds)
    plain = bytearray(changed_bytes(rng, [gzip.decompress(seed) for seed in seeds]))
    for at in range(0, len(plain) - 511, 512):
        if plain[at + 257 : at + 262] == b"ustar":
            plain[at + 148 : at + 156] = b" " * 8
            plain[at + 148 : at + 156] = b"%06o\0 " % sum(plain[at : at + 512])
    return gzip.compress(plain, 1, mtime=0)


def _unpack(path: Path) -> None:
    content, wanted = path.parent / "content", re.compile(r"[^/]*/(?P<place>.*\.wav)", re.DOTALL)
    try:
        unpack(path, content, wanted, lambda made: None, 1 << 20)
    finally:
        assert {of.name for of in path.parent.iterdir()} <= {path.name, "content"}
        assert not [of for of in content.rglob("*") if of.is_symlink()]
        shutil.rmtree(content, ignore_errors=True)


# --- the cache -----------------------------------------------------------------------------------


def _change_cached(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Other bytes; or other arrays and metadata under a right checksum."""
    if rng.random() < 0.4:
        return changed_bytes(rng, seeds)
    seed = rng.choice(seeds)
    metadata = _metadata(seed)
    del metadata["sha256"]
    if rng.random() < 0.3:
        metadata["problems"] = json.dumps(changed_value(rng, [[0, ["a", "unreadable", "b"]]]))
    return cache.sealed(changed_arrays(rng, safetensors.numpy.load(seed)), metadata)


def _metadata(content: bytes) -> dict[str, str]:
    size = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8 : 8 + size])["__metadata__"])


_KEPT: dict[str, np.ndarray] = {
    "frames": np.arange(6, dtype=np.float32).reshape(3, 2),
    "none": np.zeros((0, 4), np.int64),
}


def _read_cached(path: Path) -> None:
    cache.cached_arrays(path.stem, lambda: (_KEPT, {}), path.parent)
    cache.cached_arrays(path.stem, lambda: (_KEPT, {"computed": "again"}), path.parent)


def _sound(n: int) -> tuple[np.ndarray, int]:
    if n == 2:
        raise AudioError("c: is silent", "silent")
    return np.random.default_rng(n).normal(0, 0.1, 400 + 80 * n).astype(np.float32), 8000


def _read_features(path: Path) -> None:
    """The file takes the place of the cache's own."""
    recordings = tuple(
        Recording(name, "1", "ann", "train", f"print {n}", partial(_sound, n))
        for n, name in enumerate("abcd")
    )
    if path.exists():
        (kept,) = {*path.parent.glob("*.safetensors")} - {path}
        os.replace(path, kept)
    corpus, settings = SpeechCorpus("kept", False, 8000, recordings), LogMel(8000)
    found = corpus_features(
        corpus, settings, path.parent, workers=1, progress=False, on_error="skip"
    )
    assert (found.frames.dtype, found.frames.shape[1]) == (np.float32, settings.num_mels)
    assert np.isfinite(found.frames).all()
    assert found.offsets[-1] == len(found.frames)
    assert (np.diff(found.offsets) > 0).all()
    assert len(found) + len(found.of.skipped) == 4
    assert len(found.of.seconds) == len(found.of.levels) == len(found)


def _features(folder: Path) -> list[bytes]:
    _read_features(folder / "there is none yet")
    (kept,) = folder.glob("*.safetensors")
    return [kept.read_bytes()]


# --- a run's folder ------------------------------------------------------------------------------

_CONFIG = Options(num_cells=4, semantic_dim=2, style_dim=2).resolved("cpu")
CONFIGURATION = _CONFIG.but(epochs=2, max_frames=9, corpus="a corpus", stand_in=False)
_LATENTS = ("z_sem", "z_style")
_SCORES = {latent: {"speech": 0.5, "image": 0.25} for latent in _LATENTS}
RESULT: dict[str, Any] = {
    **dict.fromkeys(("purity", "nmi", "ari", "hungarian", "active_units"), _SCORES),
    "test_terms": {f"kl/{s}": 1.5 for s in ("z_sem", "z_style_speech", "z_style_image")},
    "corpus": "a corpus",
    "stand_in": True,
    "dataset": "fsdd",
    "model": "pvae",
    "classes": ["0", "1"],
    "remarks": ["few"],
    "left_out": {"silent": 2},
    "preset": "quick",
    "seed": 0,
    "device": "cpu",
    "epochs": 2,
    "steps": 40,
    "seconds_training": 1.5,
    "versions": {"torch": "2"},
    "platform": "x",
    "git_commit": None,
    "config": CONFIGURATION.model_dump(mode="json"),
}
_EVALUATED: dict[str, Any] = {
    **dict.fromkeys(("purity", "nmi", "ari", "hungarian", "active_units"), _SCORES),
    "num_classes": {"z_sem": {"speech": {"agreed": 2, "inertia": [3.0, 2.0, 1.0]}}},
    "probes": {"z_sem": {"speech": {"class": {"accuracy": 0.5, "chance": None}}}},
    "retrieval": {"z_sem": {"speech->image": {"recall_at_1": 0.5, "mrr": 0.6}}},
    "format": FORMAT,
    "checkpoint": sha256(b"weights").hexdigest(),
    "corpus": "a corpus",
}


def _configurations(folder: Path) -> list[bytes]:
    save_checkpoint(folder / CHECKPOINT, build(CONFIGURATION), {})
    return [CONFIGURATION.model_dump_json().encode()]


def _read_configuration(path: Path) -> None:
    for module in load_run(path.parent):
        assert not module.training


def _checkpoints(folder: Path) -> list[bytes]:
    svi, normalisation = tiny_speech_svi(), {"speech.loc": torch.tensor(1.0)}
    _step(svi)
    save_checkpoint(folder / CHECKPOINT, svi, {"step": 1}, normalisation, {"seed": 0})
    return [(folder / CHECKPOINT).read_bytes()]


def _step(svi: Any) -> None:
    for parameter in svi.parameters():
        parameter.grad = torch.ones_like(parameter)
    svi.optim.step()


def _read_checkpoint(path: Path) -> None:
    svi = tiny_speech_svi()
    load_checkpoint(path, svi)
    load_extra(path)
    read_config(path)
    assert all(parameter.isfinite().all() for parameter in svi.parameters())
    _step(svi)


def _change_checkpoint(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Other bytes; or other tensors, positions and configurations under a right checksum."""
    if rng.random() < 0.4:
        return changed_bytes(rng, seeds)
    header: Any = json.loads(_metadata(seeds[0])["pvae_pyro"])
    if rng.random() < 0.4:
        header = changed_value(rng, header)
    arrays = changed_arrays(rng, safetensors.numpy.load(seeds[0]))
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    return sealed(tensors, json.dumps(header))


def _evaluations(folder: Path) -> list[bytes]:
    (folder / CHECKPOINT).write_bytes(b"weights")
    return [json.dumps(_EVALUATED).encode()]


def _read_evaluation(path: Path) -> None:
    measured_before(SimpleNamespace(folder=path.parent))  # type: ignore[arg-type]


def _metrics(folder: Path) -> list[bytes]:
    terms = {"objective": -9.0, "log_prob/image": -5.0}
    records = [{"epoch": n, "step": 10 * n, "seconds": 0.5, **terms} for n in (1, 2, 3)]
    return [b"".join(json.dumps(record).encode() + b"\n" for record in records)]


READERS: dict[str, Reader] = {
    "sound": Reader("a.wav", _sounds, _read_sound, (AudioError,)),
    "sphere": Reader("a.sph", _spheres, _read_sound, (AudioError,)),
    "picture": Reader("a.png", _pictures, _read_picture, (CorpusError,)),
    "figure": Reader(
        "curves.png", _figures, lambda path: read_figure(path, "a figure"), (OSError,)
    ),
    "archive": Reader("a.tar.gz", _archives, _unpack, (CorpusError,), _change_archive),
    "manifest": Reader("words.csv", _manifests, _read_manifest, (CorpusError,)),
    "image manifest": Reader("drawn.csv", _image_manifests, manifest_images, (CorpusError,)),
    "transcripts": Reader("said.csv", _transcripts, read_transcripts, (CorpusError,)),
    "ctm": Reader("a.ctm", _ctms, lambda path: read_ctm([path]), (CorpusError,)),
    "cache": Reader(
        "key.safetensors",
        lambda folder: [cache.sealed(_KEPT, {"problems": "[]"})],
        _read_cached,
        change=_change_cached,
    ),
    "features": Reader("new.safetensors", _features, _read_features, change=_change_cached),
    "config": Reader(
        CONFIG, _configurations, _read_configuration, (RunError, CheckpointError), changed_json
    ),
    "checkpoint": Reader(
        CHECKPOINT, _checkpoints, _read_checkpoint, (CheckpointError,), _change_checkpoint
    ),
    "results": Reader(
        RESULTS,
        lambda folder: [json.dumps(RESULT).encode()],
        read_results,
        (RunError,),
        changed_json,
    ),
    "evaluation": Reader(EVALUATION, _evaluations, _read_evaluation, (RunError,), changed_json),
    "metrics": Reader(METRICS, _metrics, read_metrics, (ValueError,), changed_lines),
}  # fmt: skip
