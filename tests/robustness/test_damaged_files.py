"""Damaged files of every format are read or refused with a documented error, and run no program."""

import io
import json
import random
import re
import shutil
import sys

import numpy as np
import pytest
import soundfile
from PIL import Image

from pvae_pyro.data import cache
from pvae_pyro.data.alignment.ctm import read_ctm
from pvae_pyro.data.alignment.transcripts import read_transcripts
from pvae_pyro.data.audio.reading import read_audio
from pvae_pyro.data.corpora.manifest import manifest_corpus, manifest_images
from pvae_pyro.data.download import unpack
from pvae_pyro.data.pictures.decoding import read_grey
from pvae_pyro.errors import PvaeError
from pvae_pyro.experiments.support.results import read_evaluation, read_results
from pvae_pyro.experiments.support.saved_run import load_run
from pvae_pyro.figures.curves import read_metrics
from tests.support.archives import tar_gz
from tests.support.sphere import sphere

NUMBERS = (0, 1, 127, 255, 65535, 2**31 - 1, 2**32, 2**62, 2**64 - 1)
VALUES = (None, True, -1, 10**400, 1e308, float("nan"), "", "../../x", "\ud800", [], {}, [[1, "a"]])
FORBIDDEN = ("os.system", "os.exec", "subprocess.Popen", "pickle.find_class", "socket.connect")


# --- damage --------------------------------------------------------------------------------------


def damage_bytes(rng: random.Random, content: bytes) -> bytes:
    """Flip a bit, overwrite a number, or cut, repeat or delete a piece; half of it in headers."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(min(len(content), rng.choice((64, 1 << 20))) or 1)
        width, kind = rng.choice((1, 2, 4, 8)), rng.randrange(5)
        if kind == 0 and content:
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            number = rng.choice(NUMBERS) % 256**width
            content[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
        elif kind == 2:
            del content[at:]
        elif kind == 3:
            content[at:at] = content[at : at + 4 * width] * rng.choice((1, 40))
        else:
            del content[at : at + width]
    return bytes(content)


def damage_json(rng: random.Random, content: bytes) -> bytes:
    """Replace one part of the JSON value by another value, or damage its bytes."""
    if rng.random() < 0.3:
        return damage_bytes(rng, content)
    value = json.loads(content)
    part = value
    while True:
        key = rng.choice(list(part) if isinstance(part, dict) else range(len(part)))
        if not isinstance(part[key], dict | list) or not part[key] or rng.random() < 0.3:
            break
        part = part[key]
    part[key] = rng.choice(VALUES)
    return json.dumps(value).encode()


# --- good files, and their readers ---------------------------------------------------------------


def sounds() -> list[bytes]:
    noise, made = np.random.default_rng(0).normal(0, 0.1, 3200), []
    for container, coding in (
        *(("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("AIFF", "PCM_16")),
        *(("AU", "ULAW"), ("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS")),
    ):
        file = io.BytesIO()
        soundfile.write(file, noise, 16000, coding, format=container)
        made.append(file.getvalue())
    samples = (noise[:700] * 30_000).astype(np.int16)
    return [*made, sphere(samples, 20_000), sphere(samples, 20_000, coding="shorten")]


def pictures() -> list[bytes]:
    grey, made = np.random.default_rng(2).integers(200, 255, (24, 30)).astype(np.uint8), []
    grey[6:20, 10:14] = 20
    for container, mode in (
        *(("PNG", "L"), ("PNG", "RGBA"), ("PNG", "P"), ("JPEG", "RGB"), ("GIF", "P")),
        *(("BMP", "RGB"), ("TIFF", "L"), ("WEBP", "RGB"), ("PPM", "L")),
    ):
        file = io.BytesIO()
        Image.fromarray(grey).convert(mode).save(file, container)
        made.append(file.getvalue())
    return made


def read_sound(path):
    samples, rate = read_audio(path)
    assert samples.any()
    assert np.isfinite(samples).all()
    assert 4000 <= rate <= 192_000


def read_archive(path):
    content = path.parent / "content"
    wanted = re.compile(r"[^/]*/(?P<place>.*\.wav)", re.DOTALL)
    try:
        unpack(path, content, wanted, lambda made: None)
    finally:
        shutil.rmtree(content, ignore_errors=True)


def read_cached(path):
    arrays, _ = cache.cached_arrays(path.stem, lambda: (ARRAYS, {}), path.parent)
    assert arrays["frames"].tolist() == ARRAYS["frames"].tolist()


ARRAYS = {"frames": np.arange(6, dtype=np.float32).reshape(3, 2)}
WORDS = b"path,label,speaker,split,start,end\nok.wav,one,ann,train,0.01,0.04\nok.wav,two,b,test,,\n"
EVALUATION = {
    "purity": {"z": {"image": 0.5}},
    "num_classes": {"z": {"image": {"number": 2, "inertia": [3.0, 2.0]}}},
    "probes": {"z": {"image": {"class": {"accuracy": 0.5, "chance": None}}}},
}
# name of the file -> contents of good ones, and its reader
READERS = {
    "a.wav": (sounds(), read_sound),
    "a.png": (pictures(), read_grey),
    "a.tar.gz": ([tar_gz(("top/a.wav", b"first"), ("top/b.wav", bytes(600)))], read_archive),
    "words.csv": ([WORDS], manifest_corpus),
    "drawn.csv": ([b"path,label,split\nok.png,one,train\nok.png,one,test\n"], manifest_images),
    "said.csv": ([b"path,speaker,split,transcript\nok.wav,a,train,one two.\n"], read_transcripts),
    "a.ctm": ([b";; x\na_1a A 0.00 0.31 one 0.9\nb_2b 1 0.1 .2 oh\n"], lambda p: read_ctm([p])),
    "key.safetensors": ([cache.file_content(ARRAYS, {"problems": "[]"})], read_cached),
    "evaluation.json": ([json.dumps(EVALUATION).encode()], read_evaluation),
}  # fmt: skip
OF_A_RUN = {
    "config.json": lambda path: load_run(path.parent),
    "checkpoint.safetensors": lambda path: load_run(path.parent),
    "results.json": read_results,
    "metrics.jsonl": read_metrics,
}

started: list[str] = []  # forbidden audit events since a test began
sys.addaudithook(lambda event, arguments: event in FORBIDDEN and started.append(event))


def check_damaged(path, contents, read, num_files):
    """Each damaged file is read, or its error is a documented one and names its folder."""
    for content in contents:
        path.write_bytes(content)
        read(path)  # otherwise the test shows nothing
    damage = damage_json if path.suffix in (".json", ".jsonl") else damage_bytes
    started.clear()
    for number in range(num_files):
        rng = random.Random(f"{path.name} {number}")
        path.write_bytes(damage(rng, rng.choice(contents)))
        try:
            read(path)
        except (PvaeError, OSError, ValueError) as error:
            assert str(path.parent) in str(error), (number, error)  # noqa: PT017
    assert not started


MANY = pytest.param(2000, marks=pytest.mark.slow)


@pytest.mark.parametrize("num_files", [40, MANY])
@pytest.mark.parametrize("name", READERS)
def test_damaged_data(name, num_files, tmp_path):
    contents, read = READERS[name]
    (tmp_path / "ok.wav").write_bytes(sounds()[0])
    (tmp_path / "ok.png").write_bytes(pictures()[0])
    check_damaged(tmp_path / name, contents, read, num_files)


@pytest.mark.parametrize("num_files", [20, MANY])
@pytest.mark.parametrize("name", OF_A_RUN)
def test_damaged_files_of_a_run(name, num_files, small_runs, tmp_path):
    run = shutil.copytree(small_runs["vae-image"], tmp_path / "run")
    content = (run / name).read_bytes()
    if name == "metrics.jsonl":
        content = content.splitlines(keepends=True)[0]  # one line is one JSON value
    check_damaged(run / name, [content], OF_A_RUN[name], num_files)
