"""What a training step is made of, looked at for NaN and overflow."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Terms that no other example of the batch has a part in.
_OF_ONE = ("log_prob/", "kl/", "coherence/")


@dataclass(frozen=True)
class Numbers:
    """Of one step, on its device; reading them waits for it.

    terms: the objective's terms by name, ``[B]`` each.
    norms: L2 norms of the gradients, ``[P]``. In float32 that of gradients above 1e19 is an
        overflow, and counts as one.
    names: of their parameters.
    finite: whether all is, 0-d. A term that is not makes gradients that are not (`SVI`).
    """

    terms: dict[str, Tensor]
    norms: Tensor
    names: list[str]
    finite: Tensor

    @classmethod
    def of(
        cls, terms: Mapping[str, Tensor], parameters: Iterable[tuple[str, nn.Parameter]]
    ) -> "Numbers":
        gradients = {name: p.grad for name, p in parameters if p.grad is not None}
        # One pass over them: 0.1 % of a step on CPU.
        norms = torch.stack(torch._foreach_norm(list(gradients.values())))
        values = {name: value.detach() for name, value in terms.items()}
        return cls(values, norms, list(gradients), norms.isfinite().all())

    def wrong(self) -> dict[str, str]:
        """What is not finite, by name: ``"NaN"`` or ``"overflow"``.

        Terms of a single site; where they are all finite their sums; where those are too, the
        gradients of parameters.
        """
        parts = {name: value for name, value in self.terms.items() if "/" in name}
        sums = {name: value for name, value in self.terms.items() if "/" not in name}
        gradients = dict(zip(self.names, self.norms, strict=True))
        for values in (parts, sums, gradients):
            # The mean is not finite where a value is not, nor where their sum is an overflow.
            if found := {n: _kind(v) for n, v in values.items() if not v.mean().isfinite()}:
                return found
        return {}

    def rows(self) -> list[int]:
        """Places in the batch of the examples with a term that is not finite.

        By the terms that are of one example alone; where those are finite, by the others.
        """
        bad = {name: ~value.isfinite() for name, value in self.terms.items()}
        own = [value for name, value in bad.items() if name.startswith(_OF_ONE)]
        for values in (own, list(bad.values())):
            if values and (found := torch.stack(values).any(0)).any():
                return found.nonzero().flatten().tolist()
        return []


def modalities_of(name: str, modalities: Collection[str]) -> list[str]:
    """Those that a term or a parameter is called after: of ``kl/z_style_m`` that is m."""
    words = f"_{name.replace('/', '_').replace('.', '_')}_"
    return [modality for modality in modalities if f"_{modality}_" in words]


def _kind(value: Tensor) -> str:
    return "NaN" if value.isnan().any() else "overflow"
