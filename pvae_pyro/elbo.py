"""The PVAE's objective as a Pyro ELBO (paper, Eq. 9), with its terms by name."""

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import torch
from pyro import poutine
from pyro.infer import TraceMeanField_ELBO
from pyro.infer.util import torch_item
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from pvae_pyro.nn.choices import ContrastName
from pvae_pyro.objective.contrastive import contrastive_hinge, derangement, hinge_of_present
from pvae_pyro.objective.hsic import normalised_hsic
from pvae_pyro.objective.infonce import infonce
from pvae_pyro.objective.latent_recovery import restyling
from pvae_pyro.objective.sites import both, is_partial, kl, sample_sites


class PartitionedELBO(TraceMeanField_ELBO):
    """L_elbo - α L_coh - β L_con - γ L_ind - δ L_re - ε L_agree, to be maximised.

    L_elbo, L_coh and L_con are the paper's (Eqs. 7, 8, 9, 15), and the others are ours:

        L_elbo  = E_q[Σ_m log p(x^m | z_sem, z_m)] - KL(q(z_sem|x) ‖ p) - Σ_m KL(q(z_m|x) ‖ p)
        L_coh   = Σ_m KL(q(z_sem|x) ‖ q_m(z_sem|x^m)) + KL(q(z_m|x) ‖ q_m(z_m|x^m))
        L_con   = Σ_{i≠j} max(0, η - K(μ_i(x), μ_j(x)) + K(μ_i(x), μ_j(x⁻))), or `infonce`
        L_ind   = Σ_m nHSIC(μ_m, z_m) over the batch, z_m ~ q(z_m|x)
        L_re    = Σ_m -log q_m(z_sem | x̂^m),  x̂^m = E[x^m | z_sem, z'_m],  z_sem ~ q(z_sem|x)
        L_agree = ½ Σ_{i≠j} KL(q_i(z_sem|x^i) ‖ q_j(z_sem|x^j))

    L_ind measures how much a style depends on the shared latent (`normalised_hsic`, without unit,
    0 on average if not at all, at most 1 for each modality); its gradient moves only the style.
    L_re asks that the shared latent can be inferred from what is generated with it, in another
    example's style or one from the prior (`restyling`). L_agree takes out of the shared latent what
    one modality knows alone: for each two modalities it is the symmetric KL divergence of the
    multi-view information bottleneck (Federici et al. 2020, arXiv:2002.07017, Eq. 5).

    A KL divergence is analytic if torch knows its formula, and otherwise estimated by the sample,
    so the prior may be of any family. Gradients flow through both arguments.

    The guide is the multimodal one, q, and holds the unimodal ones, q_m, in a mapping
    `guide.unimodal` from modality to guide; modality `m` takes part if the model has a site
    of that name. Every site must be in one plate, the batch. With all five weights 0 this is
    `TraceMeanField_ELBO`, and `guide.unimodal` is not used.

    An example may lack modalities (`Observation.present`). Its sites without a meaning are masked
    in model and guides, and contribute to no term but L_re, which generates every modality of every
    example, in styles that exist. L_con of i and j is the mean over the examples that have both
    (`hinge_of_present`); L_agree of i and j is 0 for an example that lacks one of them.

    As in Pyro, `loss`, `differentiable_loss`, `loss_and_grads` and the module form
    ``elbo(model, guide)(batch)`` are *sums* over the batch, to be minimised; `terms` are per
    example.

    Args:
        alpha, beta: weights of L_coh and L_con.
        contrast: "hinge", the paper's L_con, or "infonce", which contrasts an example with all
            others of the batch.
        margin: η, of the hinge.
        length_scale: of the kernel K, see `rbf_kernel`.
        gamma, delta, epsilon: weights of L_ind, L_re and L_agree, which the paper does not have.
        shared: the site of the shared latent.
        **kwargs: of `TraceMeanField_ELBO`: num_particles, vectorize_particles, … Vectorised
            particles need γ = δ = 0; with these terms, `terms` and the losses raise ValueError.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 100.0,
        contrast: ContrastName = "hinge",
        margin: float = 0.5,
        length_scale: float = 1.0,
        gamma: float = 0.0,
        delta: float = 0.0,
        epsilon: float = 0.0,
        shared: str = "z_sem",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.alpha, self.beta, self.gamma, self.delta = alpha, beta, gamma, delta
        self.epsilon = epsilon
        self.contrast, self.margin, self.length_scale = contrast, margin, length_scale
        self.shared = shared

    def terms(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Every term of the objective in nats per example, ``[B]``, differentiable.

        Keys: ``objective``, ``elbo``, ``coherence``, ``contrastive`` and, with γ, δ and ε,
        ``independence``, ``restyling`` and ``agreement`` (unweighted, so objective = elbo -
        α coherence - …; contrastive and independence are not nats), and the parts that each is the
        sum of: ``log_prob/<observed site>``, ``kl/<latent site>``, ``coherence/<modality>/<site>``,
        ``contrastive/<modality>/<modality>``, ``independence/<modality>``,
        ``restyling/<modality>``, ``agreement/<modality>/<modality>``. Averaged over particles.
        """
        particles = [
            self._particle_terms(*traces) for traces in self._get_traces(model, guide, args, kwargs)
        ]
        if self.vectorize_particles and self.num_particles > 1:
            size = particles[0]["elbo"].shape[-1:]
            return {
                name: value.reshape((-1, *size)).mean(0) for name, value in particles[0].items()
            }
        return {
            name: torch.stack([terms[name] for terms in particles]).mean(0) for name in particles[0]
        }

    def _get_traces(
        self, model: Any, guide: Any, args: Any, kwargs: Any
    ) -> Iterator[tuple[Any, Any]]:
        """As the parent's, with the traces of the unimodal guides attached to the guide's trace.

        Each particle needs its own: stock `pyro.infer.SVI` runs backward once a particle, which
        frees the graph. Vectorised particles are one trace.
        """
        for model_trace, guide_trace in super()._get_traces(model, guide, args, kwargs):
            guide_trace.unimodal = {}
            if any((self.alpha, self.beta, self.gamma, self.delta, self.epsilon)):
                guide_trace.unimodal = {
                    name: prune_subsample_sites(
                        poutine.trace(unimodal_guide).get_trace(*args, **kwargs)
                    )
                    for name, unimodal_guide in guide.unimodal.items()
                    if name in model_trace.nodes
                }
            guide_trace.restyling = (
                self._restyling_terms(model, guide, guide_trace) if self.delta else {}
            )
            yield model_trace, guide_trace

    def _differentiable_loss_particle(self, model_trace: Any, guide_trace: Any) -> Any:
        loss = -self._particle_terms(model_trace, guide_trace)["objective"].sum()
        return torch_item(loss), loss

    def _particle_terms(self, model_trace: Any, guide_trace: Any) -> dict[str, Tensor]:
        parts = self._elbo_terms(model_trace, guide_trace)
        signed = [v if k.startswith("log_prob/") else -v for k, v in parts.items()]
        totals = {"elbo": torch.stack(signed).sum(0)}
        totals["objective"] = totals["elbo"]
        penalties = {
            "coherence": (self.alpha, self._coherence_terms(guide_trace)),
            "contrastive": (self.beta, self._contrastive_terms(guide_trace)),
            "independence": (self.gamma, self._independence_terms(guide_trace)),
            "restyling": (self.delta, guide_trace.restyling),
            "agreement": (self.epsilon, self._agreement_terms(guide_trace)),
        }
        for name, (weight, terms) in penalties.items():
            if terms:
                totals[name] = torch.stack(list(terms.values())).sum(0)
                totals["objective"] = totals["objective"] - weight * totals[name]
                parts |= terms
        return totals | parts

    def _elbo_terms(self, model_trace: Any, guide_trace: Any) -> dict[str, Tensor]:
        parts = {}
        for name, site in sample_sites(model_trace).items():
            if name in guide_trace.nodes:
                continue
            if not site["is_observed"]:
                raise ValueError(f"the model samples {name!r}, which the guide does not")
            parts[f"log_prob/{name}"] = site["log_prob"]
        for name, site in sample_sites(guide_trace).items():
            if name not in model_trace.nodes:
                raise ValueError(f"the guide samples {name!r}, which the model does not")
            parts[f"kl/{name}"] = kl(site, model_trace.nodes[name], site["mask"])
        shapes = {name: tuple(value.shape) for name, value in parts.items()}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"every site must be in the batch's plate; got shapes {shapes}")
        return parts

    def _coherence_terms(self, guide_trace: Any) -> dict[str, Tensor]:
        return {
            f"coherence/{modality}/{name}": kl(
                guide_trace.nodes[name], site, both(guide_trace.nodes[name]["mask"], site["mask"])
            )
            for modality, trace in guide_trace.unimodal.items()
            for name, site in sample_sites(trace).items()
        }

    def _contrastive_terms(self, guide_trace: Any) -> dict[str, Tensor]:
        if len(guide_trace.unimodal) < 2:
            return {}
        sites = {name: trace.nodes[self.shared] for name, trace in guide_trace.unimodal.items()}
        locs = {name: site["fn"].mean for name, site in sites.items()}
        scale = next(iter(sites.values()))["scale"]
        size, device = next((len(loc), loc.device) for loc in locs.values())
        present: dict[str, Tensor] | None = None
        if any(is_partial(site) for site in sites.values()):
            everyone = torch.ones(size, dtype=torch.bool, device=device)
            present = {n: s["mask"] if is_partial(s) else everyone for n, s in sites.items()}
        if self.contrast == "infonce":
            found = infonce(locs, present, self.length_scale)
        elif present is not None:
            found = hinge_of_present(locs, present, self.margin, self.length_scale)
        elif size > 1:
            negatives = derangement(size, device)
            found = contrastive_hinge(locs, negatives, self.margin, self.length_scale)
        else:  # a batch of one has no negative: 0
            found = contrastive_hinge(locs, torch.zeros(1, dtype=torch.long, device=device), 0.0)
        return {f"contrastive/{i}/{j}": scale * value for (i, j), value in found.items()}

    def _independence_terms(self, guide_trace: Any) -> dict[str, Tensor]:
        """How much each style depends on its unimodal guide's mean of the shared latent, which is
        detached: only the style moves."""
        found: dict[str, Tensor] = {}
        for modality, trace in guide_trace.unimodal.items() if self.gamma else ():
            shared = trace.nodes[self.shared]["fn"].mean.detach()
            for name, site in sample_sites(trace).items():
                if name != self.shared:
                    style = guide_trace.nodes[name]
                    present = site["mask"] if is_partial(site) else None
                    value = _dependence(shared, style["value"], present)
                    found[f"independence/{modality}"] = style["scale"] * value
        return found

    def _restyling_terms(self, model: Any, guide: Any, guide_trace: Any) -> dict[str, Tensor]:
        sites = sample_sites(guide_trace)
        latents = {name: site["value"] for name, site in sites.items()}
        unimodal = {name: guide.unimodal[name] for name in guide_trace.unimodal}
        present = {name: site["mask"] for name, site in sites.items() if is_partial(site)}
        found = restyling(model, unimodal, latents, self.shared, present)
        scale = sites[self.shared]["scale"]
        return {f"restyling/{name}": scale * value for name, value in found.items()}

    def _agreement_terms(self, guide_trace: Any) -> dict[str, Tensor]:
        unimodal = guide_trace.unimodal.items() if self.epsilon else ()
        sites = {name: trace.nodes[self.shared] for name, trace in unimodal}
        return {
            f"agreement/{i}/{j}": 0.5 * kl(q, p, both(q["mask"], p["mask"]))
            for (i, q), (j, p) in permutations(sites.items(), 2)
        }


def _dependence(shared: Tensor, style: Tensor, present: Tensor | None) -> Tensor:
    """`normalised_hsic` over the examples that are present, and 0 for the others, ``[B]``."""
    if present is None:
        return normalised_hsic(shared, style)
    value = normalised_hsic(shared[present], style[present])
    return value.new_zeros(len(shared)).masked_scatter(present, value)
