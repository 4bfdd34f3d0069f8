"""Archives, and arrays that were kept: of features, of alignments, of judges."""

import io
import json
import random
import re
import shutil
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pvae_pyro.data import cache
from pvae_pyro.data.alignment import forced as alignment
from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.corpus import AudioError, CorpusError, Problem, Recording, SpeechCorpus
from pvae_pyro.data.download import unpack
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.data.features import corpus_features
from pvae_pyro.evaluate import judges
from tests.robustness.fuzz.mutate import (
    in_order,
    mutated,
    mutated_json,
    parts_of_safetensors,
    safetensors_of,
    with_tar_checksums,
    zipped,
)
from tests.robustness.fuzz.reader import Reader
from tests.support.archives import special, tar_gz

_FILES = {"top/a.wav": b"first", "top/deep/b.wav": bytes(600), "top/readme": b"text"}
_WANTED = re.compile(r"[^/]*/(?P<place>.*\.wav)", re.DOTALL)
_MOST = 1 << 20
_NAMES = (
    *("../evil.wav", "top/../../evil.wav", "/tmp/evil.wav", "top/./a.wav", "top//a.wav", ".wav"),
    *(
        "top/link/evil.wav",
        "top/link",
        "top/a.wav/b.wav",
        "top/a.wav",
        "",
        "..",
        ".",
        "top/x\0.wav",
    ),
    *("top/" + "n" * 300 + ".wav", "top/" + "d/" * 200 + "x.wav", "top/\udcff.wav", "top/\n.wav"),
    *("C:/evil.wav", "top\\..\\evil.wav", "top/" + "é" * 140 + ".wav"),
)
_KINDS = (
    *(tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE),
    *(tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"Z"),
)


def _prepare_archive(folder: Path) -> Callable[[bytes], None]:
    inner = folder / "in"
    inner.mkdir()
    (folder / "canary").write_text("mine")
    archive, content_of = inner / "it.tar.gz", inner / "content"

    def read(content: bytes) -> None:
        archive.write_bytes(content)
        try:
            unpack(archive, content_of, _WANTED, lambda made: None, _MOST)
            for path in content_of.rglob("*"):
                assert path.is_dir() or path.is_file()
                assert not path.is_symlink()
        finally:
            left = {path.name for path in inner.iterdir()}
            shutil.rmtree(content_of, ignore_errors=True)
        assert left <= {"it.tar.gz", "content"}
        assert sorted(path.name for path in folder.iterdir()) == ["canary", "in"]

    return read


def _archive(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    kind = rng.random()
    if kind < 0.25:
        return mutated(rng, seeds)
    members: list[tuple[str | tarfile.TarInfo, bytes]] = []
    for name, content in _FILES.items():
        member = tarfile.TarInfo(name)
        if rng.random() < 0.4:
            member.name = rng.choice(_NAMES)
        if rng.random() < 0.3:
            member.type = rng.choice(_KINDS)
            member.linkname = rng.choice(("/etc/hostname", "../../canary", "top/a.wav", ".."))
        if rng.random() < 0.1:
            member.pax_headers = {
                rng.choice(("path", "linkpath", "size", "GNU.sparse.size", "GNU.sparse.map",
                            "GNU.sparse.major", "GNU.sparse.name", "hdrcharset", "mtime")):
                rng.choice(("../evil.wav", "-1", "9" * 30, "1", "0,0", "x", "nan", "0,9999999999"))
            }  # fmt: skip
        members.append((member, content))
    file = io.BytesIO()
    form = rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for member, content in members:
            assert isinstance(member, tarfile.TarInfo)
            member.size = len(content) if member.type in (b"0", b"\0") else 0
            try:
                tar.addfile(member, io.BytesIO(content[: member.size]))
            except (ValueError, UnicodeError):  # more than tar can write
                continue
    plain = file.getvalue()
    if kind < 0.6:
        plain = mutated(
            rng, [plain], (b"ustar", b"0000644\0", b"77777777777\0", b"\x80" + b"\xff" * 11)
        )
        plain = with_tar_checksums(plain)
    if kind > 0.98:
        plain += bytes(1 << 22)  # a bomb
    return zipped(plain)


_KEPT = {"frames": np.arange(6, dtype=np.float32).reshape(3, 2), "none": np.zeros((0, 4), np.int64)}
_TOLD = {"names": '["a"]'}


def sealed(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """A file of the cache as someone else could write it: its checksum is right."""
    return in_order(cache.sealed(arrays, metadata))


def bad_arrays(
    rng: random.Random, arrays: dict[str, np.ndarray], metadata: dict[str, str]
) -> bytes:
    """Other arrays than were asked for, under a right checksum."""
    arrays, metadata = dict(arrays), dict(metadata)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not arrays:
            break
        name = rng.choice(sorted(arrays))
        array = arrays[name]
        change = rng.randrange(6)
        if change == 0:
            del arrays[name]
        elif change == 1:
            arrays[name] = array.reshape(-1)[: rng.randrange(array.size + 1)].copy()
        elif change == 2:
            kinds = [np.float64, np.int8, np.uint64, np.bool_, np.float16]
            with np.errstate(all="ignore"):
                arrays[name] = array.astype(rng.choice(kinds))
        elif change == 3 and array.size:
            changed = np.array(array)
            extreme = rng.choice((-1.0, 2.0**62, -(2.0**62), np.nan, np.inf, 255.0, 10.0**6))
            with np.errstate(all="ignore"):
                changed.reshape(-1)[rng.randrange(array.size)] = np.array(extreme).astype(
                    changed.dtype
                )
            arrays[name] = changed
        elif change == 4:
            arrays[name] = np.concatenate([array, array])
        else:
            metadata[rng.choice([*metadata, "x"])] = json.dumps(
                mutated_json(rng, [[0, ["a", "unreadable", "b"]]])
            )
    return sealed(arrays, metadata)


def stored(
    rng: random.Random, seeds: Sequence[bytes], arrays: dict[str, np.ndarray], told: dict[str, str]
) -> bytes:
    """A file of safetensors: other bytes, another header, or other arrays."""
    kind = rng.random()
    if kind < 0.4:
        return mutated(rng, seeds, (b"F32", b"I64", b"data_offsets", b"__metadata__", b"shape"))
    if kind < 0.6:
        header, tensors = parts_of_safetensors(rng.choice(seeds))
        return safetensors_of(mutated_json(rng, header), tensors)
    return bad_arrays(rng, arrays, told)


def _prepare_cache(folder: Path) -> Callable[[bytes], None]:
    def read(content: bytes) -> None:
        path = folder / "key.safetensors"
        path.write_bytes(content)
        calls = []

        def compute() -> cache.Arrays:
            calls.append(1)
            return _KEPT, _TOLD

        arrays, _ = cache.cached_arrays("key", compute, folder)
        if calls:  # mended
            assert arrays is _KEPT
            again = cache.cached_arrays("key", compute, folder)
            assert len(calls) == 1
            assert again[1] == _TOLD

    return read


_RATE = 8000
_SETTINGS = LogMel(_RATE)


def _sound(n: int) -> tuple[np.ndarray, int]:
    if n == 2:
        raise AudioError("c: is silent", "silent")
    return np.random.default_rng(n).normal(0, 0.1, 400 + 80 * n).astype(np.float32), _RATE


def _corpus() -> SpeechCorpus:
    recordings = tuple(
        Recording(name, "1", "ann", "train", f"print {n}", partial(_sound, n))
        for n, name in enumerate("abcd")
    )
    return SpeechCorpus("kept", False, _RATE, recordings)


def _features(folder: Path) -> Any:
    return corpus_features(_corpus(), _SETTINGS, folder, workers=1, progress=False, on_error="skip")


def _prepare_features(folder: Path) -> Callable[[bytes], None]:
    right = _features(folder)
    (path,) = folder.glob("*.safetensors")

    def read(content: bytes) -> None:
        path.write_bytes(content)
        found = _features(folder)
        assert found.frames.dtype == np.float32
        assert found.frames.shape[1] == _SETTINGS.num_mels
        assert found.offsets[-1] == len(found.frames)
        assert (np.diff(found.offsets) > 0).all()
        assert len(found) + len(found.of.skipped) == 4
        assert len(found.of.seconds) == len(found.of.rates) == len(found)
        assert len(found.of.levels) == len(found.of.silence) == len(found)
        assert np.isfinite(found.frames).all()
        assert right.frames.shape[1] == found.frames.shape[1]

    return read


def _request(n: int) -> tuple[np.ndarray, int]:
    return np.zeros(8000, np.float32), 8000


_WORDS = ("one", "two")


def _prepare_alignment(folder: Path) -> Callable[[bytes], None]:
    requests = [
        alignment.Request(name, _WORDS, f"print {name}", partial(_request, 0)) for name in "ab"
    ]

    def found(request: Any, rate: int, words: Sequence[str]) -> list[alignment.AlignedWord]:
        return [alignment.AlignedWord(w, float(n), n + 0.5, -1.0) for n, w in enumerate(words)]

    def read(content: bytes) -> None:
        known = alignment.align_words, alignment.aligner
        alignment.align_words, alignment.aligner = found, lambda: "a test"
        try:
            if not list(folder.glob("*.safetensors")):
                alignment.align_all(requests, folder, workers=1, progress=False)
            (path,) = folder.glob("*.safetensors")
            path.write_bytes(content)
            results = alignment.align_all(requests, folder, workers=1, progress=False)
        finally:
            alignment.align_words, alignment.aligner = known
        assert len(results) == 2
        for result in results:
            if isinstance(result, Problem):
                assert all(isinstance(part, str) for part in vars(result).values())
            else:
                assert [word.word for word in result] == list(_WORDS)
                assert all(0 <= word.start < word.end < 3600 for word in result)

    return read


_ALIGNED = {"words": np.array([[0, 0.5, -1], [1, 1.5, -1], [0, 0.5, -1], [1, 1.5, -1]], np.float64)}


def _examples() -> Examples:
    rng = np.random.default_rng(4)
    images = rng.integers(0, 255, (6, 1, 28, 28)).astype(np.uint8)
    unit = Normalisation(np.float32(0), np.float32(255))
    return Examples(images, np.arange(6) % 2, unit)


def _judge(folder: Path) -> torch.nn.Module:
    return judges.cached_judge(_examples(), 2, folder, steps=1, batch_size=2)


def _judge_arrays() -> dict[str, np.ndarray]:
    judge = judges.train_judge(_examples(), 2, steps=1, batch_size=2)
    return {name: value.numpy() for name, value in judge.state_dict().items()}


def _prepare_judge(folder: Path) -> Callable[[bytes], None]:
    _judge(folder)
    (path,) = folder.glob("*.safetensors")

    def read(content: bytes) -> None:
        path.write_bytes(content)
        judge = _judge(folder)
        found = judges.judged(judge, _examples().observation(np.arange(6)))
        assert set(found) <= {0, 1}
        for value in judge.state_dict().values():
            assert value.isfinite().all()

    return read


_JUDGE = _judge_arrays()
_FRAMES: cache.Arrays = (
    {
        "frames": np.zeros((22, _SETTINGS.num_mels), np.float32),
        "index": np.array([0, 1, 3]),
        "lengths": np.array([6, 7, 9]),
        "seconds": np.array([0.05, 0.06, 0.08]),
        "rates": np.array([_RATE] * 3),
        "levels": np.array([-20.0] * 3),
        "silence": np.array([0.0] * 3),
        "skipped": np.array([2]),
    },
    {},
)


def _store(
    name: str,
    prepare: Callable[[Path], Callable[[bytes], None]],
    arrays: dict[str, np.ndarray],
    told: dict[str, str],
) -> Reader:
    def mutate(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
        return stored(rng, seeds, arrays, told)

    return Reader(name, prepare, [sealed(arrays, told)], mutate, (), "")


STORES = [
    Reader(
        "archive",
        _prepare_archive,
        [tar_gz(*_FILES.items()), tar_gz((special(tarfile.SYMTYPE, "top/link"), b""))],
        _archive,
        (CorpusError,),
        "it.tar.gz",
    ),
    _store("cache", _prepare_cache, _KEPT, _TOLD),
    _store("features", _prepare_features, *_FRAMES),
    _store("alignments", _prepare_alignment, _ALIGNED, {"problems": "[]"}),
    _store("judge", _prepare_judge, _JUDGE, {}),
]
