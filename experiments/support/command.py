"""Errors of commands, and how a command reports them."""

import io
import sys
from collections.abc import Callable
from functools import wraps

from pvae_pyro.errors import PvaeError, shown

INTERRUPTED = 130  # as a shell reports a program ended by Ctrl-C


class RunError(PvaeError):
    """A run cannot be made or used; the message says why."""


class DeviceError(PvaeError):
    """The device cannot be used; the message says why."""


def tell(error: BaseException) -> None:
    """Print it on stderr, with control characters escaped: a file's name may hold some."""
    print(f"error: {shown(str(error), keep=chr(10))}", file=sys.stderr)


def entry(
    after_interrupt: str = "", *errors: type[Exception]
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """A decorator for the `main` of a command, which turns errors into exit codes.

    Documented errors are printed in a line, and the exit code is 1; after Ctrl-C it is
    `INTERRUPTED`. Characters that the output's encoding lacks are escaped.

    after_interrupt: a remark to print after Ctrl-C. errors: further documented errors.
    """

    def decorate(main: Callable[..., int]) -> Callable[..., int]:
        @wraps(main)
        def answer(argv: list[str] | None = None) -> int:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="backslashreplace")  # stderr has it
            try:
                return main(argv)
            except (PvaeError, OSError, *errors) as error:  # type: ignore[misc]
                tell(error)
                return 1
            except KeyboardInterrupt:
                print("; ".join(filter(None, ["stopped", after_interrupt])), file=sys.stderr)
                return INTERRUPTED

        return answer

    return decorate
