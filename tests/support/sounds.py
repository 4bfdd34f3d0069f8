"""Recordings whose sound is a function of a test."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pvae_pyro.data.recording import Recording

Sound = tuple[np.ndarray, int]


@dataclass(frozen=True)
class MadeUp(Recording):
    sound: Callable[[], Sound] | None = None

    def read(self) -> Sound:
        assert self.sound is not None
        return self.sound()


def made_up(name: str, sound: Callable[[], Sound], **fields: Any) -> MadeUp:
    """A recording of a fixed class and speaker, unless the fields say otherwise."""
    fields = {"label": "0", "speaker": "s", "split": "train", "content": name, **fields}
    return MadeUp(path=Path(name), name=name, sound=sound, **fields)
