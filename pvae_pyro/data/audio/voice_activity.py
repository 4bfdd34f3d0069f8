"""Where in a recording speech is, by its energy."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import butter, sosfilt, sosfilt_zi

_LOWEST = -120.0  # dB of the largest sample: digital silence, or what rounding leaves of it


@dataclass(frozen=True)
class VoiceActivity:
    """Energy-based voice activity detection relative to the file's own level and noise.

    The level of frame t is its mean power after a high-pass filter, in dB of the largest
    sample's: L[t] = 10 log10(mean(filtered x²) / max(x²)), at least -120. Then

        speech level  P = the highest level that frames in a row hold for `shortest`
        noise floor   N = q(quiet), its spread S = q(2 quiet) - q(quiet), q the quantiles of L
        t is active   if L[t] >= P - depth, and L[t] >= N + margin + spreads S where there is noise.

    Steady noise fills frames with nearly one level, so S is small, while the quietest frames of
    speech alone have levels of all sorts. There is noise if S <= `steady` and frames below
    N + margin + spreads S make up `least_noise`: in doubt, more is kept. Noise must be
    2 `quiet` of the file or more to be known as such.

    Active frames no more than `longest_gap` apart are one stretch. A stretch shorter than
    `shortest` is a click and is ignored. Speech is from the centre of the first active frame of
    the first stretch left to the centre of the last of the last one, and `hangover` more; where
    these are the first or last frame of the file, from its start or to its end.

    frame, hop: seconds, of a frame and from one frame to the next; frame is a multiple of hop.
    highpass: corner in Hz of the first-order filter against offset, hum and rumble.
    depth: dB below the speech level where speech ends in a quiet file.
    margin, spreads: dB above the noise floor where it ends in a noisy one, and how many times
        the spread come to that.
    quiet: share of the frames, as above; at most 0.5. steady: dB. least_noise: seconds.
    shortest: seconds; a sound that lasts less is a click.
    longest_gap: seconds of silence within a word, as of the stop in "ocho" or "eight".
    hangover: seconds kept after the last active frame's centre, for the end that fades away.

    The paper (arXiv 1805.11264, section 4.1) applies an energy-based detection to SecuVoice and
    gives neither formula nor parameters. These are ours, chosen on FSDD's training recordings in
    digital silence, white noise, pink noise and babble.
    """

    frame: float = 0.020
    hop: float = 0.005
    highpass: float = 200.0
    depth: float = 30.0
    margin: float = 1.5
    spreads: float = 5.0
    quiet: float = 0.1
    steady: float = 2.0
    least_noise: float = 0.3
    shortest: float = 0.035
    longest_gap: float = 0.1
    hangover: float = 0.010

    def __post_init__(self) -> None:
        blocks = self.frame / self.hop if self.hop > 0 else 0.0
        if blocks < 0.5 or abs(blocks - round(blocks)) > 1e-6:
            raise ValueError(f"frame ({self.frame} s) must be a multiple of hop ({self.hop} s)")
        if not 0 < self.quiet <= 0.5:
            raise ValueError(f"quiet must be above 0 and at most 0.5, not {self.quiet}")
        if self.highpass <= 0:
            raise ValueError(f"highpass must be above 0 Hz, not {self.highpass}")
        other = {"frame", "hop", "highpass", "quiet"}
        for name in (field.name for field in fields(self) if field.name not in other):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, but is {getattr(self, name)}")

    def span(self, samples: np.ndarray, rate: int) -> tuple[int, int] | None:
        """Speech is ``samples[first:last]``; None where there is none.

        samples: ``[samples]``, of any scale and offset; rate: in Hz.
        Raises ValueError unless they are finite and of one channel, and the rate is enough.
        """
        levels = self._frame_levels(samples, rate)
        if len(levels) < self._held:
            return None
        active = levels >= self._speech_level(levels) - self.depth
        noise, higher = np.quantile(levels, [self.quiet, 2 * self.quiet])
        above_noise = levels >= noise + self.margin + self.spreads * (higher - noise)
        heard = np.count_nonzero(~above_noise) * self.hop
        if higher - noise <= self.steady and heard >= self.least_noise:
            active &= above_noise
        return self._span_of(np.flatnonzero(active), len(levels), len(samples), rate)

    def _span_of(
        self, active: np.ndarray, frames: int, samples: int, rate: int
    ) -> tuple[int, int] | None:
        """From the indices of the active of so many frames to samples."""
        if len(active) == 0:
            return None
        breaks = np.flatnonzero(np.diff(active) - 1 > round(self.longest_gap / self.hop))
        starts = active[np.concatenate([[0], breaks + 1])]
        ends = active[np.concatenate([breaks, [len(active) - 1]])]
        kept = ends - starts + 1 >= self._held
        if not kept.any():
            return None
        first, last = starts[kept][0], ends[kept][-1]
        centre = self.frame * rate / 2
        start = 0 if first == 0 else round(first * self._step(rate) + centre)
        if last == frames - 1:
            return start, samples
        end = round(last * self._step(rate) + centre + self.hangover * rate)
        return start, min(end, samples)

    def dynamic_range(self, samples: np.ndarray, rate: int) -> float:
        """P - N of the class's formula: dB from the noise floor to the speech level.

        0 for a recording too short to have both. Errors as of `span`.
        """
        levels = self._frame_levels(samples, rate)
        if len(levels) < self._held:
            return 0.0
        return float(max(self._speech_level(levels) - np.quantile(levels, self.quiet), 0))

    @property
    def _held(self) -> int:
        """Frames that hear something of a sound of `shortest` seconds."""
        return max(1, round((self.shortest + self.frame) / self.hop))

    def _step(self, rate: int) -> int:
        return round(self.hop * rate)

    def _speech_level(self, levels: np.ndarray) -> float:
        return float(sliding_window_view(levels, self._held).min(axis=1).max())

    def _frame_levels(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """L of the class's formula, ``[T]``; empty for a file shorter than a frame."""
        step, blocks = self._step(rate), round(self.frame / self.hop)
        if step < 1 or self.highpass >= rate / 2:
            raise ValueError(f"a rate of {rate} Hz is too low for {self}")
        if np.ndim(samples) != 1:
            raise ValueError(f"samples must be [samples], not of shape {np.shape(samples)}")
        samples = np.asarray(samples, dtype=np.float64)
        count = len(samples) // step
        largest = np.abs(samples).max(initial=0)
        if not np.isfinite(largest):
            raise ValueError("samples must be finite")
        if count < blocks or largest == 0:
            return np.empty(0)
        # Scaled, so that neither squares of tiny samples nor the floor below depend on the scale.
        scaled = samples / largest
        # The filter starts as if the first sample had been there forever: an offset is no onset.
        sections = butter(1, self.highpass, "high", fs=rate, output="sos")
        filtered, _ = sosfilt(sections, scaled, zi=sosfilt_zi(sections) * scaled[0])
        block = filtered[: count * step].reshape(count, step)
        energy = np.convolve(np.einsum("ij,ij->i", block, block), np.ones(blocks), "valid")
        power = energy / (blocks * step)
        levels: np.ndarray = 10 * np.log10(np.maximum(power, 10 ** (_LOWEST / 10)))
        return levels
