"""What a training run writes down of each epoch: metrics.jsonl and TensorBoard events."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from typing_extensions import Self

from pvae_pyro.io.files import append_line, read_regular, whole_lines, write_whole
from pvae_pyro.training.progress import Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)

METRICS = "metrics.jsonl"


class Records:
    """A line an epoch in ``metrics.jsonl``, and the same as TensorBoard events where tensorboard is
    installed. Epochs that the run will train again are dropped from the file."""

    def __init__(self, folder: Path, progress: Progress):
        self.path = folder / METRICS
        self._first_step = progress.step + 1
        lines = whole_lines(self.path)
        if len(lines) < progress.epoch:
            log.warning(
                f"{self.path} has {len(lines)} epochs, the checkpoint {progress.epoch}: the "
                "records of the others are lost"
            )
        self._kept = "".join(f"{line}\n" for line in lines[: progress.epoch])
        self._events: SummaryWriter | None = None

    def __enter__(self) -> Self:
        kept = self._kept.encode("utf-8", "surrogateescape")
        if self.path.exists() and read_regular(self.path) != kept:
            write_whole(self.path, kept)
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
        """The means of the epoch that ends at `progress`, in nats per example."""
        record = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "seconds": round(progress.seconds, 2),
            **means,
        }
        append_line(self.path, json.dumps(record))
        if self._events is not None:
            for name, mean in means.items():
                self._events.add_scalar(name, mean, progress.step)
