"""The checksum of a file is of all that it holds."""

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from pvae_pyro.io.checksums import read_sealed, seal

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(4, np.int32)}
TENSORS = {name: torch.from_numpy(array) for name, array in ARRAYS.items()}


@pytest.mark.parametrize(
    ("arrays", "library"), [(ARRAYS, safetensors.numpy), (TENSORS, safetensors.torch)]
)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"shape":[2,3]', b'"shape":[3,2]'),
        (b'"dtype":"I32"', b'"dtype":"F32"'),
        (b'"told":"x"', b'"told":"y"'),
        (b'"a":{"dtype"', b'"c":{"dtype"'),
    ],
)
def test_what_is_changed_is_found(arrays, library, old, new, tmp_path):
    content = seal(arrays, {"told": "x"}, "x", library.save)
    (tmp_path / "file").write_bytes(content)
    found, metadata = read_sealed(tmp_path / "file", lambda of: of["told"], library.load)
    assert (found.keys(), metadata) == (arrays.keys(), {"told": "x"})
    assert content.count(old) == 1
    (tmp_path / "file").write_bytes(content.replace(old, new))
    with pytest.raises(ValueError, match="its checksum differs"):
        read_sealed(tmp_path / "file", lambda of: of["told"], library.load)
