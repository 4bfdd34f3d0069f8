"""Trainings of tiny models, for tests of the loop and what it leaves behind."""

import json
import os
import signal

from pvae_pyro.training.loop import fit
from pvae_pyro.training.records import METRICS
from tests.support.tiny import tiny_loader, tiny_svi


def snapshot(svi):
    return [p.detach().clone() for p in [*svi.model.parameters(), *svi.guide.parameters()]]


def moved(before, svi):
    """Of each parameter, whether it has changed since `snapshot`."""
    return [not (a == b).all() for a, b in zip(before, snapshot(svi), strict=True)]


def run(folder, num_epochs=3, seed=0, loader=None, **kwargs):
    """A training of five steps an epoch: its SVI and progress."""
    svi = tiny_svi(seed)
    loader = loader or tiny_loader()
    options = {"show_progress": False, **kwargs}
    return svi, fit(svi, loader, num_epochs=num_epochs, folder=folder, **options)


def metrics(folder):
    """The records of the epochs, without what depends on the clock."""
    records = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


class Interrupted:
    """A loader that sends a signal before its nth batch."""

    def __init__(self, loader, after, number=signal.SIGINT):
        self.loader, self.left, self.number = loader, after, number

    def __len__(self):
        return len(self.loader)

    def epoch(self, epoch, start=0):
        for batch in self.loader.epoch(epoch, start):
            if self.left == 0:
                os.kill(os.getpid(), self.number)
            self.left -= 1
            yield batch
