"""A finished run, opened to be looked at: its model and guide, its data, its latents."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from torch import nn

from pvae_pyro.data.examples import Examples
from pvae_pyro.data.paired import PairedData
from pvae_pyro.evaluate.posterior import posterior_locs, posterior_samples
from pvae_pyro.evaluate.run import latent_of
from pvae_pyro.experiments.support.errors import RunError
from pvae_pyro.experiments.support.options import resolve_device
from pvae_pyro.experiments.support.runs import load_run, load_run_data, read_config

RESULTS = "results.json"
STYLE = "z_style"


@dataclass
class Trained:
    """names: the modalities of the model."""

    folder: Path
    config: dict[str, Any]
    model: nn.Module
    guide: nn.Module
    data: PairedData
    device: str
    _found: dict[tuple[str, str], dict[str, dict[str, np.ndarray]]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.guide.unimodal)

    @property
    def test(self) -> dict[str, Examples]:
        return {name: self.data.test[name] for name in self.names}

    def latents(self, partition: str = "test") -> dict[str, dict[str, np.ndarray]]:
        """Posterior means of the unimodal guides: latent -> modality -> ``[N, D]``; made once.

        partition: "test", or "train", of which there are at most 20,000, the same ones each time.
        """

        def find(name: str, examples: Examples) -> dict[str, np.ndarray]:
            return posterior_locs(self.guide.unimodal[name], name, examples, self.device)

        return self._all("means", find, partition)

    def samples(self, partition: str = "test") -> dict[str, dict[str, np.ndarray]]:
        """As `latents`, one draw from the posterior of every example instead of its mean.

        Every partition and modality has a seed of its own: noise that two of them had in common
        would tell them alike.
        """

        def find(name: str, examples: Examples) -> dict[str, np.ndarray]:
            guide, seed = self.guide.unimodal[name], crc32(f"{partition} {name}".encode())
            return posterior_samples(guide, name, examples, self.device, seed=seed)

        return self._all("samples", find, partition)

    def _all(
        self, what: str, find: Callable[[str, Examples], dict[str, np.ndarray]], partition: str
    ) -> dict[str, dict[str, np.ndarray]]:
        if (what, partition) not in self._found:
            found: dict[str, dict[str, np.ndarray]] = {}
            for name, examples in self.examples(partition).items():
                for site, values in find(name, examples).items():
                    found.setdefault(latent_of(site, name), {})[name] = values
            self._found[what, partition] = found
        return self._found[what, partition]

    def examples(self, partition: str) -> dict[str, Examples]:
        """What `latents` are of."""
        return self.test if partition == "test" else self._of_train

    @cached_property
    def _of_train(self) -> dict[str, Examples]:
        rng = np.random.default_rng(0)
        chosen = {}
        for name in self.names:
            examples = self.data.train[name]
            chosen[name] = examples.take(np.sort(rng.permutation(len(examples))[:20_000]))
        return chosen


def open_run(
    folder: Path,
    root: Path | None,
    device: str = "auto",
    moved: Mapping[str, str] | None = None,
) -> Trained:
    """root, moved: as of `load_run_data`.

    Raises RunError, CheckpointError or CorpusError, saying what is missing or has changed."""
    config = read_config(folder)
    if not (folder / RESULTS).exists():
        raise RunError(f"{folder} is not finished: python experiments/run_svi.py --resume {folder}")
    device = resolve_device(device)
    model, guide = load_run(folder, device)
    return Trained(folder, config, model, guide, load_run_data(folder, root, moved), device)
