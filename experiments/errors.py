"""Errors of commands, whose message is all that a user is told."""


class RunError(Exception):
    """A run folder cannot be used as asked; the message says why."""


class DeviceError(Exception):
    """The device that was asked for cannot be used; the message says why."""
