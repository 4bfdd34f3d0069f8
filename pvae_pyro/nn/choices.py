"""Names of what can be chosen, for the command line too, which does not load torch."""

from typing import Literal

PriorName = Literal["normal", "mixture", "vamp", "flow"]
SpeechEncoderName = Literal["lstm", "conv", "transformer"]
PixelFamily = Literal["normal", "bernoulli", "laplace"]
ContrastName = Literal["hinge", "infonce"]
ImageColour = Literal["grey", "rgb"]
