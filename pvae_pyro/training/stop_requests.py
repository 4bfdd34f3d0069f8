"""Ctrl-C and SIGTERM, collected until the training can stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list that receives SIGINT or SIGTERM; the same signal a second time interrupts at once.

    The other signal does not: on Ctrl-C, `torchrun` also sends SIGTERM to its processes. Python
    handles signals in the main thread alone, so in another thread the list stays empty.
    """
    requests: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        if number in requests:
            raise KeyboardInterrupt
        requests.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
