"""Speech is found where it is, in silence and in noise."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pvae_pyro.data.audio.voice_activity import VoiceActivity

RATE = 16000
VAD = VoiceActivity()


def _word(seconds: float, rate: int = RATE) -> np.ndarray:
    """Harmonics of 120 Hz that swell and fade like a syllable."""
    time = np.arange(round(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * 120 * k * time + k) / k for k in range(1, 12))
    return 0.1 * tones * np.sqrt(np.sin(np.pi * time / seconds))


def _padded(samples: np.ndarray, before: float, after: float, rate: int = RATE) -> np.ndarray:
    return np.pad(samples, (round(before * rate), round(after * rate)))


def _noise(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size)


def _pink(size: int, seed: int = 0) -> np.ndarray:
    spectrum = np.fft.rfft(_noise(size, seed))
    samples = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), size)
    return samples / samples.std()


def _speech_in_noise(seed: int = 0) -> np.ndarray:
    samples = _padded(_word(0.5), 0.4, 0.6)
    return samples + 0.01 * _noise(len(samples), seed)


@pytest.mark.parametrize("rate", [8000, 11025, 48000])
def test_edges(rate: int):
    samples = _padded(_word(0.5, rate), 0.4, 0.7, rate)
    first, last = VAD.span(samples, rate)
    assert first / rate == pytest.approx(0.4, abs=0.012)
    assert last / rate == pytest.approx(0.9, abs=0.022)  # with the hangover
    assert VAD.span(samples.astype(np.float32), rate) == (first, last)


@pytest.mark.parametrize(("scale", "offset"), [(2.0**-40, 0.0), (-1.0, 0.0), (1.0, 0.7)])
def test_scale_and_offset_do_not_matter(scale: float, offset: float):
    for samples in (_padded(_word(0.5), 0.4, 0.7), _speech_in_noise()):
        assert VAD.span(scale * samples + offset, RATE) == VAD.span(samples, RATE)


def test_speech_at_the_ends_of_the_file_is_kept_whole():
    word = _word(0.5)[2000:-2000]  # loud from the first sample to the last
    assert VAD.span(np.pad(word, (0, 9000)), RATE)[0] == 0
    assert VAD.span(np.pad(word, (9000, 0)), RATE)[1] == len(word) + 9000


def _click(samples: np.ndarray, at: float) -> np.ndarray:
    clicked = samples.copy()
    clicked[round(at * RATE) : round((at + 0.004) * RATE)] = 0.9
    return clicked


def test_clicks_are_ignored():
    samples = 0.1 * _speech_in_noise()
    # Far louder than speech: the threshold must not follow them.
    clicked = _click(_click(samples, 0.1), 1.3)
    assert VAD.span(clicked, RATE) == pytest.approx(VAD.span(samples, RATE), abs=0.005 * RATE)


def test_stop_within_a_word_is_bridged():
    samples = np.concatenate([_word(0.3), np.zeros(1280), 0.05 * _noise(240)])  # 80 ms, then 15
    samples = _padded(samples, 0.4, 0.6)
    assert VAD.span(samples, RATE)[1] > (0.4 + 0.3 + 0.08 + 0.012) * RATE
    shorter = dataclasses.replace(VAD, longest_gap=0.04)
    assert shorter.span(samples, RATE)[1] < (0.4 + 0.3 + 0.02) * RATE


def test_depth_is_where_speech_ends_in_a_quiet_file():
    loud, faint = 0.1 * _noise(8000), 0.1 * _noise(4000, 1)
    for below, kept in ((25, True), (35, False)):
        tail = faint * 10 ** (-below / 20)
        samples = _padded(np.concatenate([loud, tail]), 0.5, 0.5)
        end = VAD.span(samples, RATE)[1] / RATE
        assert end == pytest.approx(1.25 if kept else 1.0, abs=0.025)


def test_speech_without_silence_is_kept():
    """Its quietest frames are not noise."""
    fading = 0.3 * _noise(RATE) * 10 ** (-np.linspace(0, 26, RATE) / 20)
    assert VAD.span(fading, RATE) == (0, RATE)
    assert dataclasses.replace(VAD, steady=99.0).span(fading, RATE)[1] < 0.75 * RATE


NO_SPEECH = {
    "nothing": np.empty(0),
    "shorter than a click": _word(0.03),
    "zeros": np.zeros(RATE),
    "white noise": _noise(2 * RATE),
    "pink noise": _pink(2 * RATE),
    "clicks in noise": _click(_click(0.01 * _noise(2 * RATE), 0.4), 1.2),
}


@pytest.mark.parametrize("case", NO_SPEECH)
def test_no_speech(case: str):
    assert VAD.span(NO_SPEECH[case], RATE) is None


def test_zeros_before_noise_are_not_the_noise_floor():
    """A phone may start to record before its microphone does."""
    samples = _speech_in_noise()
    zeros = round(0.08 * RATE)
    assert VAD.span(np.pad(samples, (zeros, 0)), RATE) == pytest.approx(
        np.add(VAD.span(samples, RATE), zeros), abs=0.02 * RATE
    )


@pytest.mark.parametrize("snr", [10.0, 40.0])
def test_dynamic_range(snr: float):
    noise = _noise(2 * RATE)
    samples = 10 ** (-snr / 20) * noise
    samples[RATE:] = noise[RATE:]
    assert VAD.dynamic_range(samples, RATE) == pytest.approx(snr, abs=1)
    assert VAD.dynamic_range(5 * samples, RATE) == pytest.approx(VAD.dynamic_range(samples, RATE))


@pytest.mark.parametrize(
    ("changed", "samples", "reason"),
    [
        ({}, np.array([0.1, np.nan]), "finite"),
        ({"hop": 0.0}, np.zeros(RATE), "VoiceActivity"),
        ({"margin": float("nan")}, np.zeros(RATE), "VoiceActivity"),
    ],
)
def test_impossible_values_are_refused(changed: dict[str, float], samples, reason: str):
    with pytest.raises(ValueError, match=reason):
        VoiceActivity(**changed).span(samples, RATE)


# FSDD's digits with 0.3 to 0.8 s before and after. The parameters of `VoiceActivity` were chosen
# on its training recordings (indices from 5 on); these are the test recordings. FSDD cuts digits
# roughly: some files begin and end in speech, others (lucas) with 0.1 s of room. So edges are
# compared with two references: "file", the ends of FSDD's file; "5 %", the first and last sample
# that reach 5 % of the largest. Noise is at 20 dB below the whole file's power.

CONDITIONS = {"silence": None, "white noise": _noise, "pink noise": _pink}


def _edge_errors(paths: list[Path], make_noise) -> dict[str, np.ndarray]:
    """Found minus reference, ``[files, 2]`` in milliseconds; fails where nothing is found."""
    errors: dict[str, list[np.ndarray]] = {"file": [], "5 %": []}
    for number, path in enumerate(paths):
        digit, rate = soundfile.read(path)
        random = np.random.default_rng(number)
        before, after = random.integers(round(0.3 * rate), round(0.8 * rate), 2)
        samples = np.pad(digit, (before, after))
        if make_noise is not None:
            level = 0.1 * np.sqrt(np.mean(digit**2))
            samples = samples + level * make_noise(len(samples), number)
        found = VAD.span(samples, rate)
        assert found is not None, path
        heard = np.abs(digit - np.median(digit))
        loud = before + np.flatnonzero(heard >= 0.05 * heard.max())
        references = {"file": (before, before + len(digit)), "5 %": (loud[0], loud[-1] + 1)}
        for name, reference in references.items():
            errors[name].append(1000 / rate * np.subtract(found, reference))
    return {name: np.array(values) for name, values in errors.items()}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_digits(data_root: Path, condition: str):
    paths = sorted((data_root / "fsdd" / "recordings").glob("*_[0-4].wav"))
    for errors in _edge_errors(paths, CONDITIONS[condition]).values():
        assert (np.median(np.abs(errors), axis=0) <= 30).all()
