"""The records of a training run: a line an epoch in metrics.jsonl, and TensorBoard events."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from typing_extensions import Self

from pvae_pyro.io.files import whole_lines, write_whole
from pvae_pyro.training.progress import Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)

METRICS = "metrics.jsonl"


class Records:
    """Writes each epoch's terms to ``metrics.jsonl`` and, if tensorboard is installed, as events.

    Epochs after `progress`, which the run will train again, are dropped.
    """

    def __init__(self, folder: Path, progress: Progress):
        self.path = folder / METRICS
        self._first_step = progress.step + 1
        self._lines = whole_lines(self.path)[: progress.epoch]
        self._events: SummaryWriter | None = None

    def __enter__(self) -> Self:
        if self.path.exists():
            self._write_lines()
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            log.warning(f"tensorboard is not installed: {self.path} is the only record")
            return self
        self._events = SummaryWriter(str(self.path.parent), purge_step=self._first_step)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._events is not None:
            self._events.close()

    def write(self, progress: Progress, means: Mapping[str, float]) -> None:
        """Record the means of the epoch that ends at `progress`, in nats per example."""
        record = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "seconds": round(progress.seconds, 2),
            **means,
        }
        self._lines.append(json.dumps(record))
        self._write_lines()
        if self._events is not None:
            for name, mean in means.items():
                self._events.add_scalar(name, mean, progress.step)

    def _write_lines(self) -> None:
        text = "".join(f"{line}\n" for line in self._lines)
        write_whole(self.path, text.encode("utf-8", "surrogateescape"))
