"""A penalty if the shared latent cannot be inferred from what is generated with it."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pvae_pyro.generation import generated_means
from pvae_pyro.objective.contrastive import derangement


def restyling(
    model: nn.Module,
    unimodal: Mapping[str, nn.Module],
    latents: Mapping[str, Tensor],
    shared: str = "z_sem",
    present: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """-log q_m(z_sem | x̂^m) in nats, for each modality m: ``[B]``.

        x̂^m = E[x^m | z_sem, z'_m],    z'_m: another example's style, or one from the prior

    Its negative bounds the information about z_sem in what is generated, up to the entropy of
    z_sem (Chen et al. 2016, arXiv:1606.03657, Eq. 4, with generated means for x and the unimodal
    guide for Q). Only the generation is trained: no gradient reaches the z_sem that is to be
    inferred, nor the parameters of the unimodal guides, which would learn to read marks in
    generated data that real data do not have.

    To save time, it is computed for the first half of the batch: these values are scaled up, and
    the other rows are 0. Half of that half take the style of another example.

    Args:
        unimodal: modality -> its guide.
        latents: site -> sample ``[B, D]`` of the multimodal guide.
        shared: the site of the shared latent; the others are styles.
        present: site of a style -> ``[B]`` bool, the examples that have it, if not all do. An
            example that would take a missing style keeps the one from the prior.

    Raises ValueError for vectorised particles.
    """
    z = latents[shared]
    if z.dim() != 2:
        raise ValueError(f"restyling needs a batch [B, D], not {tuple(z.shape)}")
    size = len(z)
    rows = (size + 1) // 2
    styles, exists = {}, {}
    if size > 1:
        other = derangement(size, z.device)[: rows // 2]
        styles = {site: value[other] for site, value in latents.items() if site != shared}
        exists = {site: has[other].unsqueeze(-1) for site, has in (present or {}).items()}
    with _ReplaceFirstRows(styles, exists):
        generated = generated_means(model, {shared: z[:rows]}, list(unimodal))
    found = {}
    for name, guide in unimodal.items():
        with _frozen(guide):
            trace: Any = poutine.trace(guide).get_trace({name: generated[name]})
        log_prob = trace.nodes[shared]["fn"].log_prob(z[:rows].detach())
        found[name] = nn.functional.pad(-log_prob * (size / rows), (0, size - rows))
    return found


class _ReplaceFirstRows(Messenger):
    """Replaces the first rows of some sites by `given`; the rest stay as they were drawn.

    exists: site -> ``[rows, 1]`` bool, the rows to replace; all of them for other sites.
    """

    def __init__(self, given: Mapping[str, Tensor], exists: Mapping[str, Tensor]):
        super().__init__()
        self.given, self.exists = given, exists

    def _pyro_post_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.given:
            given, rest = self.given[name], msg["value"][len(self.given[name]) :]
            if name in self.exists:
                given = torch.where(self.exists[name], given, msg["value"][: len(given)])
            msg["value"] = torch.cat([given, rest])


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Exclude the parameters from gradients of what is computed in this context."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        with warnings.catch_warnings():
            # Pyro advises evaluation mode instead, in which cuDNN's LSTM has no gradient.
            warnings.filterwarnings("ignore", ".* was not registered in the param store because")
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
