"""The checksum of a file covers all its content."""

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from pvae_pyro.io.checksums import read_checked, with_checksum

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
        (b'"covered":"x"', b'"covered":"y"'),
        (b'"a":{"dtype"', b'"c":{"dtype"'),
    ],
)
def test_a_change_is_found(arrays, library, old, new, tmp_path):
    content = with_checksum(arrays, {"covered": "x"}, "x", library.save)
    (tmp_path / "file").write_bytes(content)
    found, metadata = read_checked(tmp_path / "file", lambda of: of["covered"], library.load)
    assert (found.keys(), metadata) == (arrays.keys(), {"covered": "x"})
    assert content.count(old) == 1
    (tmp_path / "file").write_bytes(content.replace(old, new))
    with pytest.raises(ValueError, match="its checksum differs"):
        read_checked(tmp_path / "file", lambda of: of["covered"], library.load)
