"""Trainings of tiny models, for tests of the loop and what it leaves behind."""

import json
import os
import signal
from functools import partial

from pvae_pyro.training.loop import fit
from pvae_pyro.training.records import METRICS
from tests.support.tiny import tiny_loader, tiny_svi


def snapshot(svi):
    return [p.detach().clone() for p in [*svi.model.parameters(), *svi.guide.parameters()]]


def moved(before, svi):
    """Of each parameter, whether it has changed since `snapshot`."""
    return [not (a == b).all() for a, b in zip(before, snapshot(svi), strict=True)]


def run(folder, num_epochs=3, seed=0, loader=None, svi=None, **options):
    """A training of five steps an epoch by default: its SVI and progress."""
    svi, loader = svi or tiny_svi(seed), loader or tiny_loader()
    options = {"num_epochs": num_epochs, "show_progress": False, **options}
    return svi, fit(svi, loader, folder=folder, **options)


def metrics(folder):
    """The records of the epochs, without what depends on the clock."""
    records = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


class BeforeBatch:
    """A loader that calls `action` before it yields batch number `count`."""

    def __init__(self, loader, count, action):
        self.loader, self.left, self.action = loader, count, action

    def __len__(self):
        return len(self.loader)

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def epoch(self, epoch, start=0):
        for batch in self.loader.epoch(epoch, start):
            if self.left == 0:
                self.action()
            self.left -= 1
            yield batch


def interrupted(loader, after, number=signal.SIGINT):
    """A loader that sends this process a signal after so many batches."""
    return BeforeBatch(loader, after, partial(os.kill, os.getpid(), number))
