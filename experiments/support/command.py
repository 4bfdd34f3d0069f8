"""Errors of commands, and how a command tells them."""

import io
import sys
from collections.abc import Callable
from functools import wraps

from pvae_pyro.errors import PvaeError, shown

INTERRUPTED = 130  # as a shell reports a program ended by Ctrl-C


class RunError(PvaeError):
    """A run folder cannot be used as asked; the message says why."""


class DeviceError(PvaeError):
    """The device that was asked for cannot be used; the message says why."""


def tell(error: BaseException) -> None:
    """Print it on stderr. What a terminal would obey, for example in a file's name, is escaped."""
    print(f"error: {shown(str(error), keep=chr(10))}", file=sys.stderr)


def entry(
    kept: str = "", *errors: type[Exception]
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """A decorator for the `main` of a command: documented errors are printed in a line and the exit
    code is 1; after Ctrl-C the exit code is `INTERRUPTED`; characters that the output's encoding
    lacks are escaped.

    kept: what becomes of the work done before Ctrl-C. errors: other errors that are documented.
    """

    def decorate(main: Callable[..., int]) -> Callable[..., int]:
        @wraps(main)
        def answer(argv: list[str] | None = None) -> int:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is
            try:
                return main(argv)
            except (PvaeError, OSError, *errors) as error:  # type: ignore[misc]
                tell(error)
                return 1
            except KeyboardInterrupt:
                print(f"stopped; {kept}" if kept else "stopped", file=sys.stderr)
                return INTERRUPTED

        return answer

    return decorate
