"""What terms of the objective ask of the sample sites of a Pyro trace."""

from typing import Any

from pyro.distributions.util import scale_and_mask
from torch import Tensor
from torch.distributions import kl_divergence

Site = dict[str, Any]


def sample_sites(trace: Any) -> dict[str, Site]:
    """The sample sites of a trace, by name."""
    return {name: site for name, site in trace.nodes.items() if site["type"] == "sample"}


def is_partial(site: Site) -> bool:
    """Whether a site's mask leaves out single examples."""
    return isinstance(site["mask"], Tensor) and site["mask"].dim() > 0


def both(a: Any, b: Any) -> Any:
    """The conjunction of two masks; None is no mask."""
    if a is None or b is None:
        return b if a is None else a
    return a & b


def kl(q: Site, p: Site, mask: Any) -> Tensor:
    """KL(q ‖ p) of two sites in nats, per example; 0 where the mask is False.

    It is estimated by q's sample if torch knows no formula, and scaled as q's site is, like the
    analytic divergences of `TraceMeanField_ELBO`.
    """
    try:
        divergence = kl_divergence(q["fn"], p["fn"])
    except NotImplementedError:
        divergence = q["fn"].log_prob(q["value"]) - p["fn"].log_prob(q["value"])
    return scale_and_mask(divergence, scale=q["scale"], mask=mask)
