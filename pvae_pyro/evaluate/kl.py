"""How much each posterior says about its example, and in how many dimensions."""

from typing import Any

import numpy as np

from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun

LEAST = 0.1  # nats of an active dimension


def active_dimensions(kl: np.ndarray, least: float = LEAST) -> np.ndarray:
    """Which dimensions are in use: KL of at least `least` nats; ``[D]`` bool.

    kl: ``[D]``, of each dimension's posteriors to its prior, mean over training examples. In other
    dimensions the posterior is nearly the prior, so a decoder sees next to nothing of its mean.
    """
    return kl >= least


def measure(run: TrainedRun, settings: MeasureSettings) -> dict[str, Any]:
    """KL of the unimodal posteriors to N(0, I): latent -> modality -> figure.

    nats: the sum over dimensions, mean over the test partition; the mutual information of latent
    and modality is at most that. active: how many of its dimensions are `active_dimensions` on the
    training partition. dimensions: how many there are.
    """
    return {
        latent: {
            name: {
                "nats": float(kl.sum()),
                "active": int(active_dimensions(run.kl("train")[latent][name]).sum()),
                "dimensions": len(kl),
            }
            for name, kl in of_modality.items()
        }
        for latent, of_modality in run.kl("test").items()
    }
