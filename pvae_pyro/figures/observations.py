"""Draw observations: pictures in grey, sequences as spectrograms, vectors as strips.

Shapes: H by W pixels, T frames, F bins of a frame, D entries of a vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pvae_pyro.batch import Observation
from pvae_pyro.data.examples import Examples, Normalisation

TICKS_HZ = (500, 1000, 2000, 4000, 8000)
PAST_THE_END = "0.9"  # light grey: no frame has it
_QUANTILES = (0.005, 0.995)  # of all values; a few extremes would cost most of the colours
_SEQUENCE_ASPECT, _VECTOR_ASPECT = 0.9, 0.35


@dataclass(frozen=True)
class SequenceAxes:
    """What the frames and bins of a sequence stand for.

    frame_seconds: from one frame to the next. bin_hz: ``[F]`` rising centre frequencies. Without
    them (a sequence that is no sound), frames and features are counted.
    """

    frame_seconds: float = 1.0
    bin_hz: np.ndarray | None = None

    @property
    def value(self) -> str:
        """What the colours stand for."""
        return "value" if self.bin_hz is None else "log energy"


def panels(observation: Observation, normalisation: Normalisation) -> list[np.ndarray]:
    """What to draw of each example, in its own units: x = loc + scale · normalised.

    ``[1, H, W]`` becomes ``[H, W]``; ``[T, F]`` becomes ``[F, length]``, without padding; ``[D]``
    becomes ``[1, D]``.
    Raises ValueError for any other shape.
    """
    values = observation.value.detach().cpu().numpy()
    values = values * normalisation.scale + normalisation.loc
    if observation.lengths is not None and values.ndim == 3:
        lengths = observation.lengths.tolist()
        return [value[:length].T for value, length in zip(values, lengths, strict=True)]
    if observation.lengths is None and values.ndim == 4 and values.shape[1] == 1:
        return list(values[:, 0])
    if observation.lengths is None and values.ndim == 2:
        return list(values[:, None])
    raise ValueError(
        f"only [1, H, W], sequences [T, F] and vectors can be drawn, not {values.shape[1:]}"
    )


def originals(examples: Examples) -> list[np.ndarray]:
    """What to draw of all the examples."""
    return panels(examples.observation(np.arange(len(examples))), examples.normalisation)


@dataclass(frozen=True)
class Drawing:
    """One modality in one figure: the same colours and the same axes for all its panels.

    low, high: ends of the colour scale. aspect: height of a panel by its width.
    num_frames: that a panel is wide, and axes: for sequences; None is a picture or a vector.
    name: of the modality.
    """

    low: float
    high: float
    aspect: float
    num_frames: int = 0
    axes: SequenceAxes | None = None
    is_vector: bool = False
    name: str = ""

    @classmethod
    def of(
        cls,
        originals: Sequence[np.ndarray],
        shown: Sequence[np.ndarray],
        axes: SequenceAxes | None,
    ) -> "Drawing":
        """The colours are those of the originals, so that what is generated is held against them.

        The scale ends at their 0.5 % and 99.5 % quantiles. Panels are as wide as the longest shown.
        """
        low, high = np.quantile(np.concatenate([panel.ravel() for panel in originals]), _QUANTILES)
        height, width = originals[0].shape
        if axes is None:
            aspect = _VECTOR_ASPECT if height == 1 else height / width
            return cls(float(low), float(high), aspect, is_vector=height == 1)
        longest = max(panel.shape[1] for panel in shown)
        return cls(float(low), float(high), _SEQUENCE_ASPECT, longest, axes)

    @classmethod
    def of_examples(
        cls, examples: Examples, shown: Sequence[np.ndarray], axes: SequenceAxes | None = None
    ) -> "Drawing":
        """By 200 originals of the partition: with the same colours in every figure."""
        if axes is None and examples.lengths is not None:
            axes = SequenceAxes()
        some = np.unique(np.linspace(0, len(examples) - 1, 200).astype(int))
        return cls.of(originals(examples.take(some)), shown, axes)

    @property
    def colours(self) -> matplotlib.colors.Colormap:
        """Dark is low; magma and viridis are perceptually uniform."""
        name = "magma" if self.axes else "viridis" if self.is_vector else "gray"
        return matplotlib.colormaps[name]

    def draw(self, axes: Axes, panel: np.ndarray) -> None:
        """One panel without ticks. Sequences: frame t lies between t and t + 1 frame times."""
        extent = None
        if self.axes:
            seconds = self.axes.frame_seconds
            extent = (0.0, panel.shape[1] * seconds, 0.0, float(panel.shape[0]))
        axes.imshow(
            panel,
            cmap=self.colours,
            vmin=self.low,
            vmax=self.high,
            origin="lower" if self.axes else "upper",
            extent=extent,
            aspect="auto",
            interpolation="nearest",
        )
        if self.axes:
            axes.set_xlim(0, self.num_frames * self.axes.frame_seconds)
            axes.set_facecolor(PAST_THE_END)
        axes.set(xticks=[], yticks=[])

    def show_units(self, axes: Axes) -> None:
        """Ticks and units on a sequence's panel, time below and frequency on the right.

        Of `TICKS_HZ`, those a quarter of the panel apart; pictures have no units.
        """
        if not self.axes:
            return
        axes.yaxis.tick_right()
        axes.yaxis.set_label_position("right")
        axes.xaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
        axes.tick_params(length=2, pad=1)
        axes.xaxis.set_major_formatter("{x:g}")
        hertz = self.axes.bin_hz
        if hertz is None:
            axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))
            axes.set_xlabel("frame", labelpad=1, fontsize=7)
            axes.set_ylabel("feature", labelpad=2, fontsize=7)
            return
        ticks: dict[float, str] = {}
        for tick in TICKS_HZ:
            # Bin f is drawn from f to f + 1, its centre frequency in the middle.
            place = float(np.interp(tick, hertz, np.arange(len(hertz)) + 0.5))
            apart = not ticks or place - max(ticks) >= len(hertz) / 4
            if hertz[0] <= tick <= hertz[-1] and apart:
                ticks[place] = str(tick)
        axes.set_yticks(list(ticks), list(ticks.values()))
        axes.set_xlabel("time (s)", labelpad=1, fontsize=7)
        axes.set_ylabel("frequency (Hz)", labelpad=2, fontsize=7)
