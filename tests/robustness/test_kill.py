"""A run that is killed at any moment and resumed comes to the same bits."""

import pytest

from tests.support.kill import context, outcome, run, try_kills
from tests.support.outcomes import record
from tests.support.tiny_run import small_corpus


def test_two_kills(tmp_path) -> None:
    found = try_kills(tmp_path, ["checkpoint", "training step"], seed=1, num_epochs=2)
    assert found["equal"] == 2, found


@pytest.mark.slow
def test_twenty_kills(tmp_path) -> None:
    phases = ["training step", "checkpoint", "evaluation", "cache write"]
    found = try_kills(tmp_path, phases * 5, seed=0)
    record("kills", "kill -9 at random moments, each run resumed", found)
    assert found["equal"] == 20, found
    assert found["hit"].keys() >= set(phases), found


@pytest.mark.slow
def test_two_runs_started_in_one_folder(tmp_path) -> None:
    """One does all the work; the other is told, and spoils nothing."""
    (tmp_path / "data").mkdir()
    options = [*small_corpus(tmp_path / "data"), "--epochs", "3"]
    both = [context().Process(target=run, args=(tmp_path, options)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(600)
    told = (tmp_path / "output").read_text()
    assert sorted(process.exitcode for process in both) == [0, 1], told
    assert told.count("in use by another process, which writes there") == 1
    assert outcome(tmp_path)["results"]["epochs"] == 3
    record("faults", "two runs started in one folder", "one is told, code 1; the other finishes")
