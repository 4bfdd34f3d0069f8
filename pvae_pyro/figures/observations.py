"""Draw observations: pictures in grey or RGB, sequences as spectrograms, vectors as strips.

Shapes: H by W pixels, T frames, F bins of a frame, D entries of a vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pvae_pyro.batch import Observation
from pvae_pyro.data.examples import Examples, Normalisation

TICKS_HZ = (500, 1000, 2000, 4000, 8000)
BEYOND_THE_END = "0.9"  # a light grey that no frame has
_QUANTILES = (0.005, 0.995)  # of all values; a few extremes would use up most of the colours
_SEQUENCE_ASPECT, _VECTOR_ASPECT = 0.9, 0.35


@dataclass(frozen=True)
class SequenceAxes:
    """What the frames and bins of a sequence stand for.

    frame_seconds: from one frame to the next. bin_hz: ``[F]`` rising centre frequencies. Without
    bin_hz (a sequence that is no sound), the axes count frames and features.
    """

    frame_seconds: float = 1.0
    bin_hz: np.ndarray | None = None

    @property
    def value(self) -> str:
        """What the colours stand for."""
        return "value" if self.bin_hz is None else "log energy"


def panels(observation: Observation, normalisation: Normalisation) -> list[np.ndarray]:
    """The array to draw for each example, in its original units: loc + scale · normalised.

    ``[1, H, W]`` becomes ``[H, W]``, and ``[3, H, W]``, which is RGB, ``[H, W, 3]``; ``[T, F]``
    becomes ``[F, length]``, without padding; ``[D]`` becomes ``[1, D]``. Raises ValueError for any
    other shape.
    """
    values = observation.value.detach().cpu().numpy()
    values = values * normalisation.scale + normalisation.loc
    if observation.lengths is not None and values.ndim == 3:
        lengths = observation.lengths.tolist()
        return [value[:length].T for value, length in zip(values, lengths, strict=True)]
    if observation.lengths is None and values.ndim == 4 and values.shape[1] == 1:
        return list(values[:, 0])
    if observation.lengths is None and values.ndim == 4 and values.shape[1] == 3:
        return list(np.moveaxis(values, 1, -1))
    if observation.lengths is None and values.ndim == 2:
        return list(values[:, None])
    raise ValueError(
        "only [1, H, W], [3, H, W], sequences [T, F] and vectors can be drawn, not "
        f"{values.shape[1:]}"
    )


def originals(examples: Examples) -> list[np.ndarray]:
    """`panels` of all the examples."""
    return panels(examples.observation(np.arange(len(examples))), examples.normalisation)


@dataclass(frozen=True)
class Drawing:
    """How one modality is drawn in one figure: all its panels share colours and axes.

    low, high: ends of the colour scale. colours: name of a colour map, perceptually uniform, in
    which dark is low. aspect: height of a panel divided by its width. axes: of a sequence; None
    for a picture or a vector. num_frames: width of a sequence's panel. name: of the modality.
    """

    low: float
    high: float
    colours: str
    aspect: float
    axes: SequenceAxes | None = None
    num_frames: int = 0
    name: str = ""

    @classmethod
    def of(
        cls,
        originals: Sequence[np.ndarray],
        shown: Sequence[np.ndarray],
        axes: SequenceAxes | None,
    ) -> "Drawing":
        """A colour scale that ends at the 0.5 % and 99.5 % quantiles of the originals.

        Generated examples are thus seen on the scale of real ones. Sequence panels are as wide as
        the longest sequence of `shown`.
        """
        low, high = np.quantile(np.concatenate([panel.ravel() for panel in originals]), _QUANTILES)
        height, width = originals[0].shape[:2]
        if axes is not None:
            longest = max(panel.shape[1] for panel in shown)
            return cls(float(low), float(high), "magma", _SEQUENCE_ASPECT, axes, longest)
        if height == 1:
            return cls(float(low), float(high), "viridis", _VECTOR_ASPECT)
        return cls(float(low), float(high), "gray", height / width)

    @classmethod
    def of_examples(
        cls, examples: Examples, shown: Sequence[np.ndarray], axes: SequenceAxes | None = None
    ) -> "Drawing":
        """As `of`, scaled by 200 examples of the partition: the same in every figure."""
        if axes is None and examples.lengths is not None:
            axes = SequenceAxes()
        some = np.unique(np.linspace(0, len(examples) - 1, 200).astype(int))
        return cls.of(originals(examples.take(some)), shown, axes)

    def in_range(self, panel: np.ndarray) -> np.ndarray:
        """RGB ``[H, W, 3]`` on the colour scale, from 0 to 1; others as they are, for the map."""
        if panel.ndim < 3:
            return panel
        return np.clip((panel - self.low) / max(self.high - self.low, 1e-6), 0, 1)

    def draw(self, axes: Axes, panel: np.ndarray) -> None:
        """Draw one panel without ticks. Frame t of a sequence lies between t and t + 1."""
        extent = None
        if self.axes:
            seconds = self.axes.frame_seconds
            extent = (0.0, panel.shape[1] * seconds, 0.0, float(panel.shape[0]))
        axes.imshow(
            self.in_range(panel),
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
            axes.set_facecolor(BEYOND_THE_END)
        axes.set(xticks=[], yticks=[])
        axes.set_box_aspect(self.aspect)

    def show_units(self, axes: Axes) -> None:
        """Add ticks and units to a sequence's panel: time below, frequency on the right."""
        if not self.axes:
            return
        hertz = self.axes.bin_hz
        x_label, y_label = ("frame", "feature") if hertz is None else ("time (s)", "frequency (Hz)")
        axes.yaxis.tick_right()
        axes.yaxis.set_label_position("right")
        axes.tick_params(length=2, pad=1)
        axes.set_xlabel(x_label, labelpad=1, fontsize=7)
        axes.set_ylabel(y_label, labelpad=2, fontsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter("{x:g}")
        if hertz is None:
            axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))
            return
        ticks: dict[float, str] = {}
        for tick in TICKS_HZ:
            # Bin f is drawn from f to f + 1, with its centre frequency in the middle.
            position = float(np.interp(tick, hertz, np.arange(len(hertz)) + 0.5))
            has_room = not ticks or position - max(ticks) >= len(hertz) / 4
            if hertz[0] <= tick <= hertz[-1] and has_room:
                ticks[position] = str(tick)
        axes.set_yticks(list(ticks), list(ticks.values()))
