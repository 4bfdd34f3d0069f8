"""Training steps: one that is not finite changes no weight, and is an error or is skipped."""

import logging
from typing import Any

import pyro
import torch
from torch import Tensor

from pvae_pyro import distributed
from pvae_pyro.batch import Batch
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.svi import SVI
from pvae_pyro.training.progress import Progress
from pvae_pyro.training.step_values import StepValues, modalities_of

log = logging.getLogger(__name__)

# Steps after which the values of a device are read, which waits for the device.
LOOK_EVERY = 10
READ_AT_ONCE = ("cpu",)  # reading from these waits for nothing
_SHOWN = 6  # examples and terms of each kind in a message


class CheckedSteps:
    """Takes the steps of a training, and checks that they are finite.

    On CPU, and wherever bad batches are skipped, a step is checked at once. On other devices the
    check comes up to `LOOK_EVERY` steps later; the steps in between were computed as ever.

    Args:
        skip: leave out batches that are not finite, and log each of them.
    """

    def __init__(self, svi: SVI, loader: PairedLoader, skip: bool):
        self.svi, self.loader, self.skip = svi, loader, skip
        self._at_once = skip or next(svi.parameters()).device.type in READ_AT_ONCE
        self._waiting: list[tuple[int, int, int, StepValues]] = []
        self._first = True

    def take(self, batch: Batch, progress: Progress) -> dict[str, Tensor] | None:
        """`SVI.update` with the batch at `progress`; returns None if the batch is skipped.

        Raises FloatingPointError naming step, terms, modalities and examples; ValueError if Pyro's
        validation finds anything else wrong in the first step.
        """
        refused = self._validate(batch) if self._first else None
        self._first = False
        with pyro.validation_enabled(False):
            means = self.svi.update(batch)
        values = self.svi.last_step
        assert values is not None
        if refused is not None and values.finite:
            raise refused
        self._waiting.append((progress.epoch, progress.batch, progress.step + 1, values))
        if not self._at_once and len(self._waiting) < LOOK_EVERY:
            return means
        return means if self.check() else None

    def check(self) -> bool:
        """Whether all steps since the last check were finite. Raises as `take` does."""
        waiting, self._waiting = self._waiting, []
        if not waiting or torch.stack([values.finite for *_, values in waiting]).all():
            return True
        message = self._message(*next(step for step in waiting if not step[-1].finite))
        if not self.skip:
            raise FloatingPointError(
                f"{message}. The step changed no weight, and the last checkpoint stays. Try a "
                "smaller learning rate, or leave such batches out (--skip-bad-batches)"
            )
        log.warning(f"{message}. The batch is skipped")
        return False

    def _validate(self, batch: Batch) -> ValueError | None:
        """What Pyro's checks of shapes and supports find, with the random state left as it was.

        They run before the step: a process that they stopped amid it would leave the others
        waiting. A batch that is not finite fails them too, but the step itself tells more of it.
        """
        device = next(self.svi.parameters()).device
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.no_grad(), pyro.validation_enabled(True):
            try:
                self.svi.terms(batch)
            except ValueError as error:
                return error
        return None

    def _message(self, epoch: int, batch: int, step: int, values: StepValues) -> str:
        """Which step, terms, modalities and examples; of all processes, which share the batch."""
        held = self.loader.held(epoch, batch)
        wrong, rows = values.wrong(), values.rows()
        examples = {}
        for name, index in held.items():
            names = self.loader.examples[name].names or range(len(self.loader.examples[name]))
            chosen = (index[rows] if rows else index).tolist()
            examples[name] = [names[n] for n in chosen if n >= 0]  # -1: missing there
        in_terms = not wrong.keys().isdisjoint(values.terms)
        parts = distributed.of_each((in_terms, wrong, examples))
        # If a process's terms are finite, its gradients are bad because of another process's.
        parts = [part for part in parts if part[0]] or parts
        wrong = {name: kind for _, part, _ in parts for name, kind in part.items()}
        kinds = [
            f"{kind} in {_some([name for name in wrong if wrong[name] == kind])}"
            for kind in dict.fromkeys(wrong.values())
        ]
        modalities = dict.fromkeys(m for name in wrong for m in modalities_of(name, held))
        told = [f"{name}: {_some([n for *_, e in parts for n in e[name]])}" for name in held]
        return (
            f"step {step} (epoch {epoch + 1}, batch {batch + 1} of {len(self.loader)}) is not "
            f"finite: {'; '.join(kinds)} (modality: {', '.join(modalities) or 'all'}), with the "
            f"examples {'; '.join(told)}"
        )


def _some(items: list[Any]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(map(str, items[:_SHOWN])) + more
