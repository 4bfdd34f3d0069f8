"""Spoken digits made by eSpeak NG: a stand-in where no recorded corpus is at hand."""

import ctypes
import importlib.metadata
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pvae_pyro.data.corpus import AudioError, CorpusError, Split
from pvae_pyro.data.recording import Recording, SpeechCorpus

# Language -> its name, eSpeak's accents, and the digits from 0. "en" is Great Britain. On these
# words en-shaw sounds like en, and en-us-nyc like en-us, so neither is in the list.
LANGUAGES = {
    "en": (
        "English",
        "en en-029 en-gb-scotland en-gb-x-gbclan en-gb-x-gbcwmd en-gb-x-rp en-us",
        "zero one two three four five six seven eight nine",
    ),
    "es": ("Spanish", "es es-419", "cero uno dos tres cuatro cinco seis siete ocho nueve"),
}

# eSpeak NG's voice variants (its data folder, voices/!v), listed here rather than read from the
# folder so that a later eSpeak does not reshuffle the corpus. Left out of the 104 of eSpeak 1.52:
# those with noise of the C library's global rand(), whispers, heavy echo, formants of no possible
# vocal tract, digits nearer to other digits than to their own, and variants that sound like one in
# the list (cepstra less than twice as far from it as a pitch step of 10 moves a voice).
VARIANTS = (
    *("Alex", "Andrea", "Annie", "Demonic", "Denis", "Diogo", "Gene", "Mario", "Mr serious"),
    *("Nguyen", "Storm", "anika", "announcer", "antonio", "aunty", "belinda", "croak", "ed"),
    *("edward", "f1", "f2", "f3", "f4", "f5", "grandma", "grandpa", "ian", "iven3", "john"),
    *("klatt", "klatt4", "linda", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "max"),
    *("norbert", "pablo", "paul", "pedro", "quincy", "robert", "sandro", "shelby", "steph"),
    *("victor",),
)

_RATE_WPM = (110, 200)
_PITCH = (35, 65)  # of 0 to 99, where 50 is the voice's own; this is 0.8 to 1.2 of it
_PITCH_RANGE = (20, 80)  # of 0, a monotone, to 99; 50 is the voice's own
# Played at another rate than eSpeak's 22,050 Hz, a voice has a vocal tract 0.92 to 1.10 times as
# long. The rates are those that resample cheaply to 16 kHz.
_PLAYED_HZ = (20000, 20800, 21600, 22400, 23200, 24000)
_PEAK_DBFS = (-21.0, -1.0)
_VOLUME = 25  # at eSpeak's usual 100 its limiter distorts some voices; levels are set afterwards
_SILENCE = 1e-3  # of the peak: 60 dB below it

# Values of eSpeak's speak_lib.h.
_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)

_one_at_a_time = threading.Lock()  # eSpeak's state is global to the process


@dataclass(frozen=True)
class EspeakRecording(Recording):
    """A word that eSpeak NG speaks when it is read; the speaker is eSpeak's voice."""

    word: str = ""
    rate_wpm: int = 0
    pitch: int = 0
    pitch_range: int = 0
    played_hz: int = 0
    peak_dbfs: float = 0.0

    def read(self) -> tuple[np.ndarray, int]:
        # eSpeak calls Python back, and Ctrl-C inside a ctypes callback is printed and forgotten.
        # Python raises it in the main thread only, so another one speaks.
        with ThreadPoolExecutor(1) as thread:
            samples = thread.submit(_synthesise, self).result()
        magnitude = np.abs(samples)
        peak = magnitude.max(initial=0.0)
        if peak == 0:
            raise AudioError(f"{self.name}: eSpeak NG gave no sound")
        heard = np.flatnonzero(magnitude > _SILENCE * peak)
        level = 10 ** (self.peak_dbfs / 20)
        word = samples[heard[0] : heard[-1] + 1] * (level / peak)
        return word.astype(np.float32), self.played_hz


def espeak_corpus(
    language: str,
    *,
    train_per_word: int = 600,
    test_per_word: int = 100,
    words: Mapping[str, str] | None = None,
) -> SpeechCorpus:
    """Ten digits spoken by eSpeak NG (espeak-ng, through the package ``espeakng-loader``).

    language: ``"en"`` or ``"es"``.
    train_per_word, test_per_word: recordings of each word.
    words: label -> what is spoken, in place of the digits.

    A speaker is an accent and a voice variant (``en-us+m3``). A quarter of the variants is for
    testing, so that a test speaker shares no vocal tract with a training one. Every recording has
    its own rate (110 to 200 words a minute), pitch (0.8 to 1.2 of the voice's own), pitch range,
    vocal tract length (0.92 to 1.10 of the voice's own) and peak level (-21 to -1 dBFS).
    Nothing is synthesised before a recording is read; reading gives 20 to 24 kHz, without silence
    at the ends, and the same samples in any order and any process.

    Raises `CorpusError` when ``espeakng-loader`` is not installed, and when its data lack a voice
    variant; reading raises `AudioError`.
    """
    order = np.random.default_rng([0, 0]).permutation(len(VARIANTS))
    test_count = round(len(VARIANTS) / 4)
    test, train = order[:test_count].tolist(), order[test_count:].tolist()
    made_by = _made_by()
    name, accents, digits = LANGUAGES[language]
    spoken = words or {str(n): word for n, word in enumerate(digits.split())}
    return SpeechCorpus(
        name=f"eSpeak NG {'words' if words else 'digits'} ({name})",
        stand_in=True,
        sample_rate=16000,
        recordings=(
            *_plan(spoken, accents, "train", train, train_per_word, made_by),
            *_plan(spoken, accents, "test", test, test_per_word, made_by),
        ),
    )


def _plan(
    words: Mapping[str, str],
    accents: str,
    split: Split,
    variants: list[int],
    per_word: int,
    made_by: str,
) -> Iterator[EspeakRecording]:
    voices = [f"{accent}+{VARIANTS[i]}" for i in variants for accent in accents.split()]
    # Each split has its own stream, so that the size of one does not change the other.
    rng = np.random.default_rng([0, 1 if split == "train" else 2])
    for label, word in words.items():
        turns: list[int] = []
        while len(turns) < per_word:  # every voice once before any is used again
            turns += rng.permutation(len(voices)).tolist()
        for index, turn in enumerate(turns[:per_word]):
            voice = voices[turn]
            name = f"{split}/{label}_{index}_{voice}"
            settings: dict[str, Any] = {
                "word": word,
                "rate_wpm": int(rng.integers(*_RATE_WPM, endpoint=True)),
                "pitch": int(rng.integers(*_PITCH, endpoint=True)),
                "pitch_range": int(rng.integers(*_PITCH_RANGE, endpoint=True)),
                "played_hz": int(rng.choice(_PLAYED_HZ)),
                "peak_dbfs": round(float(rng.uniform(*_PEAK_DBFS)), 2),
            }
            content = f"{made_by} {voice} {settings}"
            yield EspeakRecording(
                Path(name), name, label, voice, split, content=content, **settings
            )


def _synthesise(recording: EspeakRecording) -> np.ndarray:
    chunks: list[bytes] = []

    def keep(samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:  # eSpeak ends with a call that has neither
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _CALLBACK(keep)  # a name, so that it lives until eSpeak is done
    with _fresh_espeak() as espeak:
        espeak.espeak_SetSynthCallback(callback)
        if espeak.espeak_SetVoiceByName(recording.speaker.encode()) != 0:
            raise AudioError(f"eSpeak NG has no voice {recording.speaker!r}")
        values = (recording.rate_wpm, _VOLUME, recording.pitch, recording.pitch_range)
        for parameter, value in enumerate(values, start=1):  # in speak_lib.h's order
            espeak.espeak_SetParameter(parameter, value, 0)
        espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))  # any, but the same
        text = recording.word.encode()
        size = ctypes.c_size_t(len(text) + 1)  # with C's closing zero
        status = espeak.espeak_Synth(text, size, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
    if status != 0:
        raise AudioError(f"{recording.name}: eSpeak NG error {status}")
    return np.frombuffer(b"".join(chunks), dtype=np.int16).astype(np.float64)


@contextmanager
def _fresh_espeak() -> Iterator[ctypes.CDLL]:
    """eSpeak NG, loaded and started for this block alone.

    eSpeak carries its flutter, its gain control and its cycle count over from one utterance to
    the next in static variables that nothing resets; only a library loaded anew starts from the
    same state each time. That takes about two milliseconds.
    """
    if os.name != "posix":
        raise AudioError("eSpeak NG speech is made on Linux and macOS only")
    unload = ctypes.CDLL(None).dlclose
    unload.argtypes = [ctypes.c_void_p]
    with _one_at_a_time:
        try:
            espeak = ctypes.CDLL(_loader().get_library_path())
        except OSError as error:
            raise AudioError(f"eSpeak NG cannot be loaded: {error}") from error
        try:
            data = _loader().get_data_path()
            if espeak.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), _DONT_EXIT) <= 0:
                raise AudioError(f"eSpeak NG cannot start; its data path (under 160 bytes): {data}")
            yield espeak
            espeak.espeak_Terminate()
        finally:
            unload(espeak._handle)


def _made_by() -> str:
    """The versions and settings that all recordings share; checks that the variants are there.

    For a missing variant eSpeak itself would speak in the plain voice and report no error.
    """
    folder = Path(_loader().get_data_path()) / "voices" / "!v"
    missing = [variant for variant in VARIANTS if not (folder / variant).is_file()]
    if missing:
        raise CorpusError(f"eSpeak NG's data lack the voices {', '.join(missing)} in {folder}")
    with _fresh_espeak() as espeak:
        espeak.espeak_Info.restype = ctypes.c_char_p
        version = espeak.espeak_Info(None).decode()
    package = importlib.metadata.version("espeakng-loader")
    settings = f"volume={_VOLUME} silence={_SILENCE} noise_seed=1"
    return f"eSpeak NG {version} (espeakng-loader {package}) {settings}"


def _loader() -> Any:
    try:
        import espeakng_loader
    except ImportError as error:
        raise CorpusError(
            'eSpeak NG speech needs the package espeakng-loader: pip install "pvae-pyro[espeak]"'
        ) from error
    return espeakng_loader
