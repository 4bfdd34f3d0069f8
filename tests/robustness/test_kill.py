"""A run that is killed at any moment and resumed gives what a run without a kill gives."""

import random

import pytest

from tests.support import killed_run
from tests.support.killed_run import (
    LENGTHS,
    OPTIONS,
    PHASES,
    check_files_are_whole,
    finish,
    outcome,
)
from tests.support.tiny_run import small_corpus


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The options, the counts of phases and the outcome of a run without a kill."""
    folder = tmp_path_factory.mktemp("whole")
    options = [*small_corpus(tmp_path_factory.mktemp("data")), *OPTIONS]
    counts = dict(zip(PHASES, finish(folder, options), strict=True))
    found = outcome(folder)
    assert found["metrics"][-1]["step"] == 9
    return options, counts, found


def kill_and_resume(uninterrupted, tmp_path, phases, seed):
    """Kill the run in each of the phases, each time resuming it; then let it finish."""
    options, counts, expected = uninterrupted
    rng = random.Random(f"{phases} {seed}")
    for attempt in range(100):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        if all(
            killed_run.kill(
                *(folder, options, phase),
                count=rng.randint(1, min(counts[phase], 5)),
                seconds=rng.uniform(0, LENGTHS[phase]),
            )
            for phase in phases
        ):
            break  # otherwise a process ended before it was killed
    check_files_are_whole(folder)
    finish(folder, options)
    check_files_are_whole(folder)
    found = outcome(folder)
    assert found.keys() == expected.keys()
    assert not [name for name in expected if found[name] != expected[name]]


def test_two_kills(uninterrupted, tmp_path):
    kill_and_resume(uninterrupted, tmp_path, ["training step", "checkpoint"], seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("phase", PHASES)
def test_many_kills(uninterrupted, tmp_path, phase, seed):
    kill_and_resume(uninterrupted, tmp_path, [phase], seed)


def test_two_runs_started_in_one_folder(uninterrupted, tmp_path):
    """One does all the work; the other one is refused."""
    options, _, expected = uninterrupted
    both = [killed_run.start(tmp_path, options)[0] for _ in range(2)]
    for process in both:
        process.join(600)
    printed = (tmp_path / "output").read_text()
    assert sorted(process.exitcode for process in both) == [0, 1], printed
    (error,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert str(tmp_path / "run") in error
    assert outcome(tmp_path)["progress"] == expected["progress"]
