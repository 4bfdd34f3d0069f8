"""What every test gets: fixed seeds, an empty param store, Pyro's checks on."""

import os
from pathlib import Path

import pyro
import pytest
import torch

# Test tensors are tiny: a second thread costs more than it brings.
torch.set_num_threads(1)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _clean_pyro():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    with pyro.validation_enabled(True):
        yield


@pytest.fixture
def data_root() -> Path:
    """The real corpora; skips where they are not."""
    root = Path(os.environ.get("PVAE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip("no real data: set PVAE_DATA")
    return root


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
