"""A reader under test: good files of its format, how they are made bad, and what it may do."""

import random
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.robustness.fuzz.limits import MEMORY, Limit, limits


@dataclass(frozen=True)
class Reader:
    """name: of what is read.

    prepare: folder -> `read`, which writes a file's content into the folder and reads it as the
        library does. It is called once, so it may put other files there. Raises AssertionError
        where what it read cannot be.
    seeds: good files. mutate: makes one bad.
    errors: what reading may raise. named: every such message has this in it.
    memory: bytes that a file may take.
    """

    name: str
    prepare: Callable[[Path], Callable[[bytes], object]]
    seeds: Sequence[bytes]
    mutate: Callable[[random.Random, Sequence[bytes]], bytes]
    errors: tuple[type[Exception], ...]
    named: str
    memory: int = MEMORY


def check_named(error: Exception, name: object) -> None:
    """That an error which is not passed on says which file."""
    assert str(name) in str(error), error


@dataclass(frozen=True)
class Failure:
    """number: of the file. what: the kind of error and where it came from."""

    number: int
    what: str
    content: bytes


@dataclass
class Outcome:
    """What became of `files` files: `read` of them were, `refused` with a documented error."""

    files: int = 0
    read: int = 0
    refused: int = 0
    bytes: int = 0
    failures: list[Failure] | None = None


def content_of(reader: Reader, seed: int, number: int) -> bytes:
    """The file of that number: the same on every machine."""
    return reader.mutate(random.Random(f"{reader.name} {seed} {number}"), reader.seeds)


def fuzz(
    reader: Reader,
    folder: Path,
    numbers: range,
    seed: int = 0,
    before: Callable[[int, bytes], object] = lambda number, content: None,
) -> Outcome:
    """Read mutated files; `before` is told of each. Good ones must be read, or ValueError."""
    read = reader.prepare(folder)
    for n, content in enumerate(reader.seeds):
        try:
            read(content)  # imports what it needs, too
        except Exception as error:
            raise ValueError(f"{reader.name}: good file {n} is refused: {error!r}") from error
    outcome = Outcome(failures=[])
    for number in numbers:
        content = content_of(reader, seed, number)
        before(number, content)
        what = tried(reader, read, folder, content, outcome)
        if what is not None:
            assert outcome.failures is not None
            outcome.failures.append(Failure(number, what, content))
    return outcome


def tried(
    reader: Reader,
    read: Callable[[bytes], object],
    folder: Path,
    content: bytes,
    outcome: Outcome,
) -> str | None:
    """What is wrong with how the reader takes that file; None is nothing."""
    outcome.files += 1
    try:
        with limits(folder, memory=reader.memory) as used:
            read(content)
        outcome.read += 1
    except reader.errors as error:
        outcome.refused += 1
        if reader.named not in str(error):
            return f"{type(error).__name__} that does not name the file: {str(error)[:200]}"
        try:
            str(error).encode("utf-8")
        except UnicodeEncodeError:
            return f"{type(error).__name__} that cannot be printed: {str(error)[:200]!a}"
    except (Exception, Limit) as error:
        return f"{type(error).__name__} at {_where(error)}: {str(error)[:200]}"
    finally:
        outcome.bytes = max(outcome.bytes, used.bytes)
    return None


def _where(error: BaseException) -> str:
    """The last line of the library, or of the test where it is an assertion."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    own = [f for f in frames if "site-packages" not in f.filename and "/lib/" not in f.filename]
    library = [f for f in own if "/tests/" not in f.filename]
    of = own if isinstance(error, AssertionError) else library or own or frames
    return f"{Path(of[-1].filename).name}:{of[-1].lineno} ({of[-1].line})" if of else "?"
