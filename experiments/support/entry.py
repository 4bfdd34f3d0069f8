"""What the `main` of every command passes through."""

import io
import sys
from collections.abc import Callable
from functools import wraps

from pvae_pyro.experiments.support.errors import OF_A_RUN, tell

INTERRUPTED = 130  # as a shell reports a program ended by Ctrl-C


def entry(
    kept: str = "", *errors: type[Exception]
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """A decorator: characters that the output's encoding lacks are escaped, documented errors are
    told in a line and the exit code is 1, and Ctrl-C is told and the exit code is `INTERRUPTED`.

    kept: after Ctrl-C, what was done so far. errors: documented ones besides `OF_A_RUN`.
    """

    def decorate(main: Callable[..., int]) -> Callable[..., int]:
        @wraps(main)
        def answer(argv: list[str] | None = None) -> int:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is
            try:
                return main(argv)
            except (*OF_A_RUN, *errors) as error:
                tell(error)
                return 1
            except KeyboardInterrupt:
                print(f"stopped; {kept}" if kept else "stopped", file=sys.stderr)
                return INTERRUPTED

        return answer

    return decorate
