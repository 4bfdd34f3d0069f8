"""Training steps that are checked: a step that is not finite changes no weight."""

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

# Steps between two checks on a device other than these, because reading a value waits for it.
CHECK_EVERY = 10
CHECK_AT_ONCE = ("cpu",)
_SHOWN = 6  # examples, and terms of each kind, in a message


class CheckedSteps:
    """Takes the steps of a training, and checks that they are finite.

    On CPU, and when bad batches are skipped, each step is checked at once. On other devices the
    check comes up to `CHECK_EVERY` steps later.

    Args:
        skip: leave out batches that are not finite, and log each of them, instead of raising.
    """

    def __init__(self, svi: SVI, loader: PairedLoader, skip: bool):
        self.svi, self.loader, self.skip = svi, loader, skip
        self._device = next(svi.parameters()).device
        self._unchecked: list[tuple[Progress, StepValues]] = []
        self._first = True

    def take(self, batch: Batch, progress: Progress) -> dict[str, Tensor] | None:
        """`SVI.update` with the batch at `progress`; returns None if the batch is skipped.

        Raises FloatingPointError naming step, terms, modalities and examples; ValueError if Pyro's
        validation finds another mistake in the first step.
        """
        mistake = self._validate(batch) if self._first else None
        self._first = False
        with pyro.validation_enabled(False):
            means = self.svi.update(batch)
        values = self.svi.last_step
        assert values is not None
        if mistake is not None and values.finite:
            raise mistake
        self._unchecked.append((progress.model_copy(), values))
        at_once = self.skip or self._device.type in CHECK_AT_ONCE
        if not at_once and len(self._unchecked) < CHECK_EVERY:
            return means
        return means if self.check() else None

    def check(self) -> bool:
        """Whether all steps since the last check were finite. Raises as `take` does."""
        unchecked, self._unchecked = self._unchecked, []
        if not unchecked or torch.stack([values.finite for _, values in unchecked]).all():
            return True
        message = self._message(*next(step for step in unchecked if not step[1].finite))
        if not self.skip:
            raise FloatingPointError(
                f"{message}. The step changed no weight, and the last checkpoint stays. Try a "
                "smaller learning rate, or leave such batches out (--skip-bad-batches)"
            )
        log.warning(f"{message}. The batch is skipped")
        return False

    def _validate(self, batch: Batch) -> ValueError | None:
        """What Pyro's checks of shapes and supports find; the random state stays as it was.

        They run apart from the step: an error in the middle of it would leave other processes
        waiting. A batch that is not finite fails them too, but the step's own message says more.
        """
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.no_grad(), pyro.validation_enabled(True):
            try:
                self.svi.terms(batch)
            except ValueError as error:
                return error
        return None

    def _message(self, at: Progress, values: StepValues) -> str:
        """Name step, terms, modalities and examples, over all processes."""
        held = self.loader.held(at.epoch, at.batch)
        wrong, rows = values.wrong(), values.rows()
        examples = {}
        for name, index in held.items():
            names = self.loader.examples[name].names or range(len(self.loader.examples[name]))
            chosen = (index[rows] if rows else index).tolist()
            examples[name] = [names[n] for n in chosen if n >= 0]  # -1: a missing modality
        in_terms = not wrong.keys().isdisjoint(values.terms)
        parts = distributed.of_each((in_terms, wrong, examples))
        # A process with finite terms has bad gradients only because of another process.
        parts = [part for part in parts if part[0]] or parts
        wrong = {name: kind for _, part, _ in parts for name, kind in part.items()}
        kinds = [
            f"{kind} in {_some([name for name in wrong if wrong[name] == kind])}"
            for kind in dict.fromkeys(wrong.values())
        ]
        modalities = dict.fromkeys(m for name in wrong for m in modalities_of(name, held))
        named = [f"{name}: {_some([n for *_, e in parts for n in e[name]])}" for name in held]
        return (
            f"step {at.step + 1} (epoch {at.epoch + 1}, batch {at.batch + 1} of "
            f"{len(self.loader)}) is not finite: {'; '.join(kinds)} (modality: "
            f"{', '.join(modalities) or 'all'}), with the examples {'; '.join(named)}"
        )


def _some(items: list[Any]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(map(str, items[:_SHOWN])) + more
