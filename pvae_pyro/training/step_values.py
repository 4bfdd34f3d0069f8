"""The numbers that a training step is made of, looked at for NaN and overflow."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Terms in which no other example of the batch takes part.
_OF_ONE_EXAMPLE = ("log_prob/", "kl/", "coherence/")


@dataclass(frozen=True)
class StepValues:
    """The terms and gradients of one step, on its device; reading them waits for the device.

    terms: the objective's terms by name, ``[B]`` each.
    norms: L2 norms of the gradients, ``[P]``. In float32 the norm of a gradient above 1e19
        overflows, and counts as an overflow.
    names: the names of their parameters.
    finite: whether everything is finite, 0-d. A term that is not finite makes gradients that are
        not finite either (`pvae_pyro.svi.SVI`).
    """

    terms: dict[str, Tensor]
    norms: Tensor
    names: list[str]
    finite: Tensor

    @classmethod
    def of(
        cls, terms: Mapping[str, Tensor], parameters: Iterable[tuple[str, nn.Parameter]]
    ) -> "StepValues":
        gradients = {name: p.grad for name, p in parameters if p.grad is not None}
        # One pass over all gradients: 0.1 % of a step on CPU.
        norms = torch.stack(torch._foreach_norm(list(gradients.values())))
        values = {name: value.detach() for name, value in terms.items()}
        return cls(values, norms, list(gradients), norms.isfinite().all())

    def wrong(self) -> dict[str, str]:
        """What is not finite: name -> ``"NaN"`` or ``"overflow"``.

        These are the terms of single sites; if all of them are finite, the sums of terms; if all of
        those are finite too, the gradients of parameters.
        """
        parts = {name: value for name, value in self.terms.items() if "/" in name}
        sums = {name: value for name, value in self.terms.items() if "/" not in name}
        gradients = dict(zip(self.names, self.norms, strict=True))
        for values in (parts, sums, gradients):
            # The mean is not finite where a value is not, nor where their sum overflows.
            if found := {n: _kind(v) for n, v in values.items() if not v.mean().isfinite()}:
                return found
        return {}

    def rows(self) -> list[int]:
        """The rows of the batch whose terms are not finite; empty if no row can be blamed.

        Terms that belong to one example alone decide; if they are finite, the others do.
        """
        bad = {name: ~value.isfinite() for name, value in self.terms.items()}
        own = [value for name, value in bad.items() if name.startswith(_OF_ONE_EXAMPLE)]
        for values in (own, list(bad.values())):
            if values and (found := torch.stack(values).any(0)).any():
                return found.nonzero().flatten().tolist()
        return []


def modalities_of(name: str, modalities: Collection[str]) -> list[str]:
    """The modalities in the name of a term or parameter: ``kl/z_style_m`` belongs to m."""
    words = f"_{name.replace('/', '_').replace('.', '_')}_"
    return [modality for modality in modalities if f"_{modality}_" in words]


def _kind(value: Tensor) -> str:
    return "NaN" if value.isnan().any() else "overflow"
