"""Ctrl-C and SIGTERM, kept until a training can heed them."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list that is empty until SIGINT or SIGTERM arrives; the same signal again acts at once.

    The other signal does not: on Ctrl-C `torchrun` sends its processes SIGTERM besides. Outside the
    main thread the list stays empty, because signals are handled there alone.
    """
    requests: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        if number in requests:
            raise KeyboardInterrupt
        requests.append(number)

    try:
        before = {
            number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)
        }
    except ValueError:
        yield requests
        return
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
