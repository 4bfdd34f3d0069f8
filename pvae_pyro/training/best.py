"""The best of the last epochs of a run, by what it trains on."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pvae_pyro import distributed
from pvae_pyro.io.checked_json import NUMBER, misfit
from pvae_pyro.svi import SVI
from pvae_pyro.training.checkpoint import DamagedError, read_progress, save_checkpoint, set_aside

log = logging.getLogger(__name__)

BEST = "best.safetensors"


class Best:
    """Keeps in ``best.safetensors`` the end of the best epoch of those asked for.

    That is the one with the highest mean objective over the epoch's own training batches. No
    label and no held-out example has a part in it, so it is no early stopping: it is there for a
    run whose last steps happen to be bad ones, as when a loss leaps up. Scores are of the last
    weights. Which epoch it is does not depend on when a run was stopped or killed.

    Args:
        epochs: those to choose of, from 0.
        next_epoch: the one that training goes on with; a file of later ones is forgotten.

    A file that is damaged is told of, and gets another name. Raises CheckpointError where one may
    not be read.
    """

    def __init__(self, folder: Path, epochs: range, next_epoch: int):
        self.path = Path(folder) / BEST
        self.epochs = epochs
        self._best: float | None = None
        if distributed.rank() == 0:
            self._best = self._of_file(next_epoch)
        self._best = distributed.first_of_all(self._best)

    def _of_file(self, next_epoch: int) -> float | None:
        if not os.path.lexists(self.path):
            return None
        try:
            kept = read_progress(self.path)
            if wrong := misfit(kept, {"epoch": int, "objective": NUMBER}):
                raise DamagedError(f"{self.path} is no best of a run: {wrong}")
        except DamagedError as error:
            log.warning(f"{error}; it is now {set_aside(self.path).name}")
            return None
        # Its position is the start of the epoch after it.
        if kept["epoch"] - 1 in self.epochs and kept["epoch"] <= next_epoch:
            return float(kept["objective"])
        self.path.unlink()
        return None

    def wants(self, epoch: int, objective: float) -> bool:
        """Whether the epoch that ends here is the best so far of those to choose of."""
        return epoch in self.epochs and (self._best is None or objective > self._best)

    def keep(
        self,
        svi: SVI,
        progress: Mapping[str, Any],
        objective: float,
        extra: Mapping[str, Tensor] | None,
    ) -> None:
        """Write it; every process must call it, as `save_checkpoint`."""
        content = {**progress, "objective": objective}
        save_checkpoint(self.path, svi, content, extra, keep_previous=False)
        self._best = objective
