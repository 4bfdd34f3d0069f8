"""Training steps that are watched: NaN and overflow are told of, with all there is to know."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor

from pvae_pyro import distributed
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.io.files import append_line
from pvae_pyro.modality import Batch
from pvae_pyro.svi import SVI
from pvae_pyro.training.step_values import Numbers, modalities_of

BAD_BATCHES = "bad-batches.jsonl"
_AT_ONCE = ("cpu",)  # devices that nothing is to be waited for
_SHOWN = 6  # of each modality's examples and of the gradients, in a message


class Watch:
    """Takes the steps of a training, and looks at what they are made of.

    The batch of a step with a term or a gradient that is not finite changes no weight (`SVI`). It
    becomes a line of ``bad-batches.jsonl`` and, unless such batches are to be skipped, the end.

    On CPU, and where they are skipped, that is in the step itself. On other devices, which it
    would wait for, it is at the next `look`; what came in between was computed as ever.

    Args:
        skip: go on without such batches.
    """

    def __init__(self, svi: SVI, loader: PairedLoader, folder: Path, skip: bool):
        self.svi, self.loader, self.folder, self.skip = svi, loader, Path(folder), skip
        self._at_once = skip or next(svi.parameters()).device.type in _AT_ONCE
        self._waiting: list[tuple[int, int, int, Numbers]] = []

    def step(self, batch: Batch, epoch: int, number: int, step: int) -> dict[str, Tensor] | None:
        """`SVI.update` of batch `number` of an epoch; None where it is skipped.

        Raises FloatingPointError naming step, terms, modalities and examples.
        """
        means = self._update(batch)
        assert self.svi.numbers is not None
        self._waiting.append((epoch, number, step, self.svi.numbers))
        return means if not self._at_once or self.look() else None

    def look(self) -> bool:
        """Whether all steps since the last look were finite. Raises as `step` does."""
        waiting, self._waiting = self._waiting, []
        if not waiting or torch.stack([numbers.finite for *_, numbers in waiting]).all():
            return True
        first = next(found for found in waiting if not found[-1].finite)
        record = self._record(*first)
        if distributed.rank() == 0:
            append_line(self.folder / BAD_BATCHES, json.dumps(record))
        if self.skip:
            return False
        raise FloatingPointError(self._told(record))

    def _update(self, batch: Batch) -> dict[str, Tensor]:
        if distributed.world_size() > 1:
            return self._update_of_several(batch)
        before = torch.get_rng_state()
        try:
            return self.svi.update(batch)
        except ValueError:
            # Pyro's own checks, if they are on, stop at what is not finite, and name no batch.
            torch.set_rng_state(before)  # the noise of a step that nobody checked
            with pyro.validation_enabled(False):
                means = self.svi.update(batch)
            if self.svi.numbers is not None and self.svi.numbers.finite:
                raise
            return means

    def _update_of_several(self, batch: Batch) -> dict[str, Tensor]:
        """With Pyro's own checks, if they are on, before the step: amid it the others would wait
        for a process that they stop, and it could not be repeated."""
        refused: ValueError | None = None
        if pyro.settings.get("validate_distributions_pyro"):
            device = next(self.svi.parameters()).device
            devices = [device] if device.type == "cuda" else []
            try:
                with torch.random.fork_rng(devices), torch.no_grad():
                    self.svi.terms(batch)
            except ValueError as error:
                refused = error
        with pyro.validation_enabled(False):
            means = self.svi.update(batch)
        if refused is not None and self.svi.numbers is not None and self.svi.numbers.finite:
            raise refused
        return means

    def _record(self, epoch: int, number: int, step: int, numbers: Numbers) -> dict[str, Any]:
        """Of all processes: each has a part of the batch."""
        held = self.loader.held(epoch, number)
        wrong = numbers.wrong()
        of_terms = not wrong.keys().isdisjoint(numbers.terms)
        parts = distributed.of_each((of_terms, wrong, self._named(held, numbers.rows())))
        # Where a process's terms are finite its gradients are not: they are everybody's mean.
        if any(of_terms for of_terms, *_ in parts):
            parts = [part for part in parts if part[0]]
        wrong = {name: kind for _, part, _ in parts for name, kind in part.items()}
        examples = {name: [n for *_, part in parts for n in part[name]] for name in held}
        return {
            "step": step,
            "epoch": epoch + 1,
            "batch": number + 1,
            "wrong": wrong,
            "modalities": _unique(m for name in wrong for m in modalities_of(name, held)),
            "examples": examples,
        }

    def _named(
        self, held: dict[str, np.ndarray], bad: list[int]
    ) -> dict[str, list[str | int | None]]:
        """Identifiers of the bad examples, of all where none is known: names, or else numbers."""
        found: dict[str, list[str | int | None]] = {}
        for name, index in held.items():
            names = self.loader.examples[name].names or range(len(self.loader.examples[name]))
            chosen = (index[bad] if bad else index).tolist()
            found[name] = [None if n < 0 else names[n] for n in chosen]  # None: missing there
        return found

    def _told(self, record: dict[str, Any]) -> str:
        kinds: dict[str, list[str]] = {}
        for name, kind in record["wrong"].items():
            kinds.setdefault(kind, []).append(name)
        wrong = "; ".join(f"{kind} in {_some(names)}" for kind, names in kinds.items())
        modalities = ", ".join(record["modalities"]) or "all"
        examples = "; ".join(f"{name}: {_some(n)}" for name, n in record["examples"].items())
        return (
            f"step {record['step']} (epoch {record['epoch']}, batch {record['batch']} of "
            f"{len(self.loader)}) is not finite: {wrong} (of modality: {modalities}), with the "
            f"examples {examples}. It changed no weight, and the last checkpoint stays; "
            f"{self.folder / BAD_BATCHES} has it all. A smaller learning rate may help, or "
            "going on without such batches (--skip-bad-batches)"
        )


def _some(items: list[Any]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(map(str, items[:_SHOWN])) + more


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
