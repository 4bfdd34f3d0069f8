"""A trained model with its data, as all measures see it, and the settings of measuring."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import torch
from torch import nn

from pvae_pyro.batch import Batch
from pvae_pyro.data.examples import Examples
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.evaluate.posterior import posterior_kl, posterior_locs
from pvae_pyro.svi import SVI

if TYPE_CHECKING:  # it needs torchaudio, which a machine that only trains may lack
    from pvae_pyro.data.paired import PairedData

STYLE = "z_style"
Latents = dict[str, dict[str, np.ndarray]]  # latent -> modality -> [N, D]
_MOST_TRAIN = 20_000  # training examples of which latents are inferred
_BATCH = 32  # pairs of `test_batches`


@dataclass(frozen=True)
class MeasureSettings:
    """limit: examples to generate. judge_steps: training steps of a judge. num_samples: importance
    weights of each guide. likelihood_examples: test pairs, in batches of 32. most_classes: how far
    classes are counted."""

    limit: int = 1000
    judge_steps: int = 1000
    num_samples: int = 50
    likelihood_examples: int = 320
    most_classes: int = 100


@dataclass
class TrainedRun:
    """unseen_classes: the names of classes that training left out.

    model_before_fit: the model with the prior of its training, if another was fitted afterwards.
    """

    model: nn.Module
    guide: Any
    data: "PairedData"
    device: str
    num_clusters: int
    unseen_classes: tuple[str, ...] = ()
    model_before_fit: nn.Module | None = None
    _latents: dict[tuple[str, bool], Latents] = field(default_factory=dict)
    _kl: dict[str, Latents] = field(default_factory=dict)

    @property
    def unimodal(self) -> dict[str, nn.Module]:
        """modality -> its guide."""
        return dict(self.guide.unimodal.items())

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities of the model."""
        return tuple(self.unimodal)

    @property
    def test(self) -> dict[str, Examples]:
        return {name: self.data.test[name] for name in self.names}

    @cached_property
    def _train(self) -> dict[str, Examples]:
        rng = np.random.default_rng(0)
        chosen = {}
        for name in self.names:
            examples = self.data.train[name]
            chosen[name] = examples.take(np.sort(rng.permutation(len(examples))[:_MOST_TRAIN]))
        return chosen

    def examples(self, partition: str) -> dict[str, Examples]:
        """The examples of `latents`: of "test" all, of "train" at most 20,000, always the same."""
        return self.test if partition == "test" else self._train

    def latents(self, partition: str = "test", sampled: bool = False) -> Latents:
        """Posterior means of the unimodal guides, computed once.

        sampled: one draw from each posterior instead of its mean. Each partition and modality has
        its own seed: with common noise they would seem alike.
        """
        key = partition, sampled
        if key not in self._latents:
            found: Latents = {}
            for name, examples in self.examples(partition).items():
                seed = crc32(f"{partition} {name}".encode()) if sampled else None
                guide = self.unimodal[name]
                locs = posterior_locs(guide, name, examples, self.device, seed=seed)
                for site, values in locs.items():
                    found.setdefault(latent_of(site, name), {})[name] = values
            self._latents[key] = found
        return self._latents[key]

    def kl(self, partition: str = "test") -> Latents:
        """`posterior_kl` of the same examples, ``[D]`` for each latent and modality."""
        if partition not in self._kl:
            found: Latents = {}
            for name, examples in self.examples(partition).items():
                for site, kl in posterior_kl(
                    self.unimodal[name], name, examples, self.device
                ).items():
                    found.setdefault(latent_of(site, name), {})[name] = kl
            self._kl[partition] = found
        return self._kl[partition]

    def test_batches(self, num_examples: int) -> list[Batch]:
        """The first test pairs in whole batches of 32: at least `num_examples`, or all.

        Known pairs that lack a modality are left out. Raises ValueError if that is all of them.
        """
        loader = self.data.loader(
            "test", _BATCH, complete=True, device=self.device, names=self.names
        )
        return list(islice(loader.epoch(0), -(-num_examples // _BATCH)))


def latent_of(site: str, modality: str) -> str:
    """The name of a site's latent when modalities are compared: z_style for z_style_m."""
    return site.removesuffix(f"_{modality}")


def is_shared(latent: str) -> bool:
    """Whether a latent has one meaning for all modalities: every one but z_style."""
    return latent != STYLE


@torch.no_grad()
def evaluate_terms(svi: SVI, loader: PairedLoader) -> dict[str, float]:
    """Each term of the objective on the loader's partition, mean in nats per example."""
    sums: dict[str, float] = {}
    for batch in loader.epoch(0):
        for name, value in svi.terms(batch).items():
            sums[name] = sums.get(name, 0.0) + value.sum().item()
    return {name: value / loader.num_examples for name, value in sums.items()}


def some_of(examples: Examples, limit: int, seed: int = 0) -> Examples:
    """At most `limit` of the examples, in random order."""
    return examples.take(np.random.default_rng(seed).permutation(len(examples))[:limit])


def tensor_locs(
    guide: nn.Module, name: str, examples: Examples, device: torch.device | str
) -> dict[str, torch.Tensor]:
    """`posterior_locs` as tensors on the device."""
    locs: Mapping[str, np.ndarray] = posterior_locs(guide, name, examples, device)
    return {site: torch.from_numpy(value).to(device) for site, value in locs.items()}
