"""A run that is killed at any moment and resumed has the results of one that was left alone."""

import random

import pytest

from tests.support.kill import (
    LENGTHS,
    OPTIONS,
    PHASES,
    Page,
    check_left,
    finish,
    kill,
    outcome,
    start,
)  # fmt: skip
from tests.support.tiny_run import small_corpus


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was left alone: its options, its folder and its outcome."""
    folder = tmp_path_factory.mktemp("whole")
    data = tmp_path_factory.mktemp("data")
    options = [*small_corpus(data), *OPTIONS]
    finish(folder, options)
    found = outcome(folder)
    assert found["metrics"][-1]["step"] == 9
    return options, folder, found


def check_kill(whole, tmp_path, phase, seed):
    options, folder, expected = whole
    rng, tries = random.Random(f"{phase} {seed}"), 0
    while True:
        case = tmp_path / str(tries)
        case.mkdir()
        count = rng.randint(1, min(Page(folder / "page").count(phase), 8))
        if kill(case, options, phase, count, rng.uniform(0, LENGTHS[phase])):
            break
        tries += 1  # it had ended before
    check_left(case)
    finish(case, options)
    check_left(case)
    found = outcome(case)
    assert found.keys() == expected.keys()
    assert not [name for name in expected if found[name] != expected[name]]


@pytest.mark.parametrize("phase", ["training step", "checkpoint"])
def test_a_kill(whole, tmp_path, phase):
    check_kill(whole, tmp_path, phase, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("phase", PHASES)
def test_many_kills(whole, tmp_path, phase, seed):
    check_kill(whole, tmp_path, phase, seed)


def test_two_runs_started_in_one_folder(whole, tmp_path):
    """One does all the work; the other one is refused."""
    options, _, expected = whole
    both = [start(tmp_path, options) for _ in range(2)]
    for process in both:
        process.join(600)
    told = (tmp_path / "output").read_text()
    assert sorted(process.exitcode for process in both) == [0, 1], told
    (error,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert str(tmp_path / "run") in error
    assert outcome(tmp_path)["progress"] == expected["progress"]
