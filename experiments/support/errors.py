"""Errors of commands, whose message is all that a user is told."""

import sys

from pvae_pyro.data.corpus import CorpusError, shown
from pvae_pyro.training.checkpoint import CheckpointError


class RunError(Exception):
    """A run folder cannot be used as asked; the message says why."""


class DeviceError(Exception):
    """The device that was asked for cannot be used; the message says why."""


# What a command that opens a run ends with in one line.
OF_A_RUN = (RunError, DeviceError, CheckpointError, CorpusError, OSError)


def tell(error: BaseException) -> None:
    """On stderr; what a terminal would obey, in the name of a file, say, is escaped."""
    print(f"error: {shown(str(error), keep=chr(10))}", file=sys.stderr)
