"""The terms and gradients of a training step, searched for NaN and overflow."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Terms that depend on a single example of the batch.
_OF_ONE_EXAMPLE = ("log_prob/", "kl/", "coherence/")


@dataclass(frozen=True)
class StepValues:
    """The terms and gradients of one step, on its device; reading them waits for the device.

    terms: the objective's terms by name, ``[B]`` each. norms: parameter name -> L2 norm of its
    gradient, 0-d; above 1e19 it overflows in float32. finite: whether all gradients are finite,
    0-d. Terms that are not finite make the gradients so (`pvae_pyro.svi.SVI`).
    """

    terms: dict[str, Tensor]
    norms: dict[str, Tensor]
    finite: Tensor

    @classmethod
    def of(
        cls, terms: Mapping[str, Tensor], parameters: Iterable[tuple[str, nn.Parameter]]
    ) -> "StepValues":
        gradients = {name: p.grad for name, p in parameters if p.grad is not None}
        norms = torch._foreach_norm(list(gradients.values()))  # 0.1 % of a step on CPU
        return cls(
            {name: value.detach() for name, value in terms.items()},
            dict(zip(gradients, norms, strict=True)),
            torch.stack(norms).isfinite().all(),
        )

    def wrong(self) -> dict[str, str]:
        """What is not finite: name -> ``"NaN"`` or ``"overflow"``.

        These are terms of single sites; if all of them are finite, sums of terms; if all of those
        are finite too, gradients of parameters.
        """
        parts = {name: value for name, value in self.terms.items() if "/" in name}
        for values in (parts, self.terms, self.norms):
            # The mean is not finite if a value is not, or if their sum overflows.
            bad = {name: value for name, value in values.items() if not value.mean().isfinite()}
            if bad:
                return {n: "NaN" if v.isnan().any() else "overflow" for n, v in bad.items()}
        return {}

    def rows(self) -> list[int]:
        """The rows of the batch whose terms are not finite; empty if no row is to blame.

        Terms that depend on one example alone decide; if they are finite, the others do.
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
