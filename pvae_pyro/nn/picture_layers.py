"""The layers that networks of pictures share: how often a picture is halved, and their channels.

Shapes: C channels, H x W pixels.
"""

PictureShape = tuple[int, int, int]  # C, H, W
MNIST: PictureShape = (1, 28, 28)
_WIDTHS = (16, 32, 64, 64)


def num_halvings(shape: PictureShape) -> int:
    """How often a picture's sides are halved: twice up to 32 pixels, then until at most 8 are left.

    2 for 28, 3 for 64, 4 for 128.
    """
    _, height, width = shape
    return max(2, (max(height, width) - 1).bit_length() - 3)


def widths(shape: PictureShape) -> tuple[int, ...]:
    """Channels after each halving: 8 and 16, the paper's, for two of them; else 16, 32, 64, 64."""
    number = num_halvings(shape)
    return (8, 16) if number == 2 else (*_WIDTHS, *[_WIDTHS[-1]] * number)[:number]


def sides(shape: PictureShape) -> list[tuple[int, int]]:
    """H and W before the first halving and after each, rounded down."""
    _, height, width = shape
    return [(height >> n, width >> n) for n in range(num_halvings(shape) + 1)]
