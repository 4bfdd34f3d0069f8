"""Voice activity detection by energy: where in a recording there is speech."""

from dataclasses import astuple, dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import butter, sosfilt, sosfilt_zi

_LOWEST = -120.0  # dB of the largest sample, for digital silence


@dataclass(frozen=True)
class VoiceActivity:
    """Energy-based voice activity detection relative to the file's own level and noise.

    The level of frame t is its mean power after a high-pass filter, in dB of the largest
    sample's: L[t] = 10 log10(mean(filtered x²) / max(x²)), at least -120. Then

        speech level  P = the highest level that consecutive frames hold for `shortest`
        noise floor   N = q(quiet), its spread S = q(2 quiet) - q(quiet), q the quantiles of L
        t is active   if L[t] >= P - depth, and L[t] >= N + margin + spreads S where there is noise.

    Frames of steady noise have nearly one level, so S is small, but the levels of the quietest
    frames of speech vary. There is noise if S <= `steady` and the frames below
    N + margin + spreads S last `least_noise` or more. Noise shorter than 2 `quiet` of the file is
    not recognised: in doubt, more is kept.

    Active frames at most `longest_gap` apart are one stretch, and a stretch shorter than `shortest`
    is ignored as a click. Speech is from the centre of the first active frame to the centre of
    the last, and `hangover` more; if these are the first or last frame of the file, it is from the
    file's start or to its end.

    frame, hop: of the frames, in seconds; frame is a multiple of hop.
    highpass: corner in Hz of the first-order filter against offset, hum and rumble.
    depth: dB below the speech level at which speech ends in a quiet file.
    margin, spreads: speech ends in a noisy file `margin` dB and `spreads` times the spread above
        the noise floor.
    quiet: the share of frames above; at most 0.5. steady: dB. least_noise: seconds.
    shortest: seconds; a shorter sound is a click.
    longest_gap: seconds of silence within a word, such as the stop in "ocho" or "eight".
    hangover: seconds kept after the last active frame's centre, for an end that fades away.

    The paper (arXiv 1805.11264, section 4.1) applies an energy-based detection to SecuVoice
    without formula or parameters. These were chosen on FSDD's training recordings in digital
    silence, white noise, pink noise and babble.
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
        positive = min(self.frame, self.hop, self.highpass, self.quiet) > 0
        if not positive or self.quiet > 0.5 or not all(value >= 0 for value in astuple(self)):
            raise ValueError(f"parameters must not be negative, nor quiet above 0.5: {self}")
        if abs(self.frame / self.hop - round(self.frame / self.hop)) > 1e-6:
            raise ValueError(f"frame must be a multiple of hop: {self}")

    def span(self, samples: np.ndarray, rate: int) -> tuple[int, int] | None:
        """The first and last index of speech in ``samples [n]``, or None without speech.

        samples: of any scale and offset. rate: in Hz. Raises ValueError for samples of another
        shape or not finite, and for a rate too low for `highpass` or `hop`.
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
        """From the indices of active frames, and the numbers of frames and samples, to samples."""
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
        """P - N, in dB, or 0 for a recording shorter than `shortest`. Raises as `span` does."""
        levels = self._frame_levels(samples, rate)
        if len(levels) < self._held:
            return 0.0
        return float(max(self._speech_level(levels) - np.quantile(levels, self.quiet), 0))

    @property
    def _held(self) -> int:
        """The number of frames that contain some of a sound of `shortest` seconds."""
        return max(1, round((self.shortest + self.frame) / self.hop))

    def _step(self, rate: int) -> int:
        return round(self.hop * rate)

    def _speech_level(self, levels: np.ndarray) -> float:
        return float(sliding_window_view(levels, self._held).min(axis=1).max())

    def _frame_levels(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """L, ``[T]``; empty for a file shorter than a frame or of zeros."""
        step, blocks = self._step(rate), round(self.frame / self.hop)
        if step < 1 or self.highpass >= rate / 2:
            raise ValueError(f"a rate of {rate} Hz is too low for {self}")
        samples = np.asarray(samples, dtype=np.float64)
        largest = np.abs(samples).max(initial=0)
        if samples.ndim != 1 or not np.isfinite(largest):
            raise ValueError(f"samples must be [n] and finite, not of shape {samples.shape}")
        count = len(samples) // step
        if count < blocks or largest == 0:
            return np.empty(0)
        # Scaled, because the squares of tiny samples are zero.
        scaled = samples / largest
        # The filter starts in the steady state of the first sample: an offset is no onset.
        sections = butter(1, self.highpass, "high", fs=rate, output="sos")
        filtered, _ = sosfilt(sections, scaled, zi=sosfilt_zi(sections) * scaled[0])
        block = filtered[: count * step].reshape(count, step)
        energy = np.convolve(np.einsum("ij,ij->i", block, block), np.ones(blocks), "valid")
        power = energy / (blocks * step)
        levels: np.ndarray = 10 * np.log10(np.maximum(power, 10 ** (_LOWEST / 10)))
        return levels
