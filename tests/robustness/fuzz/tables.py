"""Lists of what is where: CTM, manifests, transcripts."""

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from pvae_pyro.data.alignment.ctm import read_ctm
from pvae_pyro.data.alignment.transcripts import read_transcripts
from pvae_pyro.data.corpora.an4 import _read_lists
from pvae_pyro.data.corpora.manifest import manifest_corpus, manifest_images
from pvae_pyro.data.corpora.spoken_words import spoken_words_corpus
from pvae_pyro.data.corpus import AudioError, CorpusError
from tests.robustness.fuzz.mutate import mutated
from tests.robustness.fuzz.reader import Reader, check_named

_WORDS = (
    *(b"../out.wav", b"../out.png", b"/etc/passwd", b"link/out.wav", b"link.wav", b"link.png"),
    *(b"~/x", b"good.wav", b"good.png", b"a/../../out.wav", b"..", b".", b"\xef\xbb\xbf", b"\n"),
    *(b"\r\n", b"\r", b'"', b'""', b",", b"\t", b";", b"\xff", b"\xed\xa0\x80", b"train", b"test"),
    *(b"path", b"label", b"\xe2\x80\xa8", b"\x85", b"=cmd()", b"//host/share", b"a" * 300),
    *(b"C:\\x", b"/dev/zero", b"/proc/self/mem", b"pipe", b"loop", b"\x1b[2J"),
)
SPEECH = [
    b"path,label,speaker,split,start,end\ngood.wav,one,ann,train,0.01,0.04\n"
    b"good.wav,two,ann,train,0.05,0.09\nsub/fine.wav,one,bob,test,,\n",
    b'path,label,speaker,split\n"good.wav","o,ne",ann,train\nsub/fine.wav,two,bob,TEST\n',
]
IMAGES = [b"path,label,split\ngood.png,one,train\nsub/fine.png,one,test\n"]
TRANSCRIPTS = [
    b"path,speaker,split,transcript\ngood.wav,ann,train,one two THREE.\nsub/fine.wav,b,test,oh\n"
]
MSWC = [
    b"SET,LINK,WORD,VALID,SPEAKER,GENDER\nTRAIN,good.wav,uno,TRUE,ann,NA\n"
    b"TEST,sub/fine.wav,dos,True,bob,MALE\nDEV,x.wav,uno,TRUE,c,\nTRAIN,y.wav,dos,FALSE,c,\n"
]
AN4 = [b"an4_clstk/fash/an251-fash-b\nan4_clstk/fash/cen1-fash-b\n"]
CTM = [
    b";; a comment\nac_1a A 0.00 0.31 one 0.9\nac_1a A 0.31 0.22 two\nbc_2b 1 0.1 0.25 oh\n",
    b"x 1 0 .5 a\nx 1 .5 1e-1 b\n",
]


def _files(folder: Path) -> Path:
    """A root with good files, links out of it and round in it, and a pipe; secrets beside it."""
    rng = np.random.default_rng(3)
    root = folder / "root"
    (root / "sub").mkdir(parents=True)
    for path in (root / "good.wav", root / "sub" / "fine.wav", folder / "out.wav"):
        soundfile.write(path, rng.normal(0, 0.1, 1600), 16000)
    for path in (root / "good.png", root / "sub" / "fine.png", folder / "out.png"):
        Image.fromarray(rng.integers(0, 255, (9, 9)).astype(np.uint8)).save(path)
    (root / "link").symlink_to(folder)
    (root / "link.wav").symlink_to(folder / "out.wav")
    (root / "link.png").symlink_to(folder / "out.png")
    (root / "loop").symlink_to(root / "loop")
    os.mkfifo(root / "pipe")
    return root


def _inside(paths: Sequence[Path], root: Path) -> None:
    for path in paths:
        assert path.resolve().is_relative_to(root.resolve()), path


def _prepare_speech(folder: Path) -> Callable[[bytes], None]:
    root = _files(folder)
    manifest = root / "words.csv"

    def read(content: bytes) -> None:
        manifest.write_bytes(content)
        corpus = manifest_corpus(manifest)
        assert all(problem.reason for problem in corpus.problems)
        names = [recording.name for recording in corpus.recordings]
        assert len(set(names)) == len(names)
        for recording in corpus.recordings:
            assert recording.split in ("train", "test")
            assert recording.label
            _inside([Path(recording.read.args[0].path)], root)
            try:
                samples, _ = recording.read()
                assert samples.any()
            except AudioError as error:
                check_named(error, root)

    return read


def _prepare_images(folder: Path) -> Callable[[bytes], None]:
    root = _files(folder)
    manifest = root / "drawings.csv"

    def read(content: bytes) -> None:
        manifest.write_bytes(content)
        corpus = manifest_images(manifest)
        for split in ("train", "test"):
            assert corpus.images[split].shape[1:] == (28, 28)
            assert len(corpus.images[split]) == len(corpus.labels[split])

    return read


def _prepare_transcripts(folder: Path) -> Callable[[bytes], None]:
    root = _files(folder)
    table = root / "said.csv"

    def read(content: bytes) -> None:
        table.write_bytes(content)
        utterances, _ = read_transcripts(table)
        _inside([utterance.path for utterance in utterances], root)
        assert all(word for utterance in utterances for word in utterance.words)

    return read


def _prepare_ctm(folder: Path) -> Callable[[bytes], None]:
    path = folder / "a.ctm"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        utterances, problems = read_ctm([path])
        assert not {problem.name for problem in problems} & utterances.keys()
        for spans in utterances.values():
            end = 0.0
            for span in spans:
                assert end - 0.0052 <= span.start < span.end
                end = span.end

    return read


def _prepare_mswc(folder: Path) -> Callable[[bytes], None]:
    clips = folder / "mswc" / "es" / "clips"
    clips.parent.mkdir(parents=True)
    _files(folder).rename(clips)
    table = clips.parent / "es_splits.csv"

    def read(content: bytes) -> None:
        table.write_bytes(content)
        corpus = spoken_words_corpus(folder, language="es")
        _inside([Path(recording.read.args[0].path) for recording in corpus.recordings], clips)

    return read


def _prepare_an4(folder: Path) -> Callable[[bytes], None]:
    """Both kinds of its lists: files, and what is said in them."""
    etc = folder / "an4" / "etc"
    etc.mkdir(parents=True)

    def read(content: bytes) -> None:
        for split in ("train", "test"):
            said = content if b"<s>" in content else b"<s> ONE </s> (an251-fash-b)\n"
            listed = content if b"<s>" not in content else AN4[0]
            (etc / f"an4_{split}.transcription").write_bytes(said)
            (etc / f"an4_{split}.fileids").write_bytes(listed)
        utterances, _ = _read_lists(folder / "an4")
        _inside([utterance.path for utterance in utterances], folder / "an4" / "wav")

    return read


def _mutate(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    return mutated(rng, seeds, _WORDS)


TABLES = [
    Reader("CTM", _prepare_ctm, CTM, _mutate, (CorpusError,), "a.ctm"),
    Reader("manifest", _prepare_speech, SPEECH, _mutate, (CorpusError,), "words.csv"),
    Reader("manifest of images", _prepare_images, IMAGES, _mutate, (CorpusError,), "drawings.csv"),
    Reader("transcripts", _prepare_transcripts, TRANSCRIPTS, _mutate, (CorpusError,), "said.csv"),
    Reader("Spoken Words table", _prepare_mswc, MSWC, _mutate, (CorpusError,), "es_splits.csv"),
    Reader(
        "AN4 lists",
        _prepare_an4,
        [*AN4, b"<s> ONE OH </s> (an251-fash-b)\n"],
        _mutate,
        (CorpusError,),
        "an4_",
    ),
]
