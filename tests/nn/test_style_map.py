"""An affine map of styles that the content chooses."""

import pytest
import torch
from torch import nn

from pvae_pyro.nn.style_map import StyleMap


class FirstTwo(nn.Module):
    """A mixture of two components, whose responsibilities are the softmax of z_sem."""

    def responsibilities(self, z):
        return z.softmax(-1)


@pytest.fixture
def style_map():
    torch.manual_seed(0)
    roots = torch.randn(2, 3, 3)
    linear = roots @ roots.mT + torch.eye(3)
    return StyleMap(FirstTwo(), torch.randn(3), torch.randn(2, 3), linear)


def test_it_is_the_map_of_the_component(style_map):
    z = torch.randn(5, 3)
    for k, z_sem in enumerate(torch.tensor([[99.0, 0], [0, 99.0]])):
        expected = style_map.loc + style_map.offsets[k] + (z - style_map.loc) @ style_map.linear[k]
        torch.testing.assert_close(style_map(z_sem.expand(5, 2), z), expected)


@pytest.mark.parametrize("shape", [(), (4,), (2, 4)])
@pytest.mark.parametrize("autocast", [False, True])
def test_the_inverse_undoes_it(style_map, shape, autocast):
    z_sem, z = torch.randn(*shape, 2), torch.randn(*shape, 3)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        moved = style_map(z_sem, z)
        assert (moved - z).abs().max() > 0.1
        torch.testing.assert_close(style_map.inverse(z_sem, moved), z, atol=1e-5, rtol=1e-4)


def test_the_mixture_is_no_part_of_it(style_map):
    assert set(style_map.state_dict()) == {"loc", "offsets", "linear"}
    assert [*style_map.modules()] == [style_map]
