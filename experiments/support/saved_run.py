"""A run's folder, read again: its configuration, model, guide, data and latents."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from pydantic import ValidationError
from torch import nn

from pvae_pyro.data.examples import Examples
from pvae_pyro.data.paired import PairedData
from pvae_pyro.evaluate.posterior import posterior_locs, posterior_samples
from pvae_pyro.evaluate.run import latent_of
from pvae_pyro.experiments.support.build import build_model, num_weights
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.command_line import what_is_wrong
from pvae_pyro.experiments.support.config import MAY_CHANGE, PLACES, Config, config_of_json
from pvae_pyro.experiments.support.data import load_run_data
from pvae_pyro.experiments.support.device import resolve_device
from pvae_pyro.training import checkpoint
from pvae_pyro.training.checkpoint import CHECKPOINT, CheckpointError, load_weights

CONFIG = "config.json"
RESULTS = "results.json"
FRAMING = "image.framing"  # how training pictures are, among a checkpoint's extra tensors


def read_config(folder: str | Path) -> Config:
    """A run's configuration. Raises RunError, saying why it cannot be read."""
    try:
        return config_of_json((Path(folder) / CONFIG).read_bytes())
    except ValidationError as error:
        raise RunError(f"{folder}/{CONFIG} is not valid: {what_is_wrong(error)}") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{folder} is not a run that can be read: {error}") from error


def staying(config: Config) -> dict[str, Any]:
    """What of a configuration stays as it is while a run is trained, as JSON for its checkpoint.

    Whether data are the same their digest tells, wherever they lie.
    """
    return config.model_dump(mode="json", exclude={*MAY_CHANGE, *PLACES, "threads", "corpus"})


def check_same(config: Config, folder: Path) -> None:
    """Refuse a configuration that its checkpoint was not trained with: somebody edited it.

    Raises RunError naming what differs, CheckpointError. Checkpoints of earlier versions do not
    tell; options that came since are not compared.
    """
    trained = checkpoint.read_config(folder / CHECKPOINT) or {}
    now = staying(config)
    if different := [name for name in now if trained.get(name, now[name]) != now[name]]:
        told = ", ".join(f"{name} is {now[name]!r}, not {trained[name]!r}" for name in different)
        raise RunError(f"{folder}/{CONFIG} is not what {CHECKPOINT} was trained with: {told}")


def check_size(config: Config, folder: Path) -> None:
    """Refuse a configuration of more weights than its checkpoint holds, before it is built: a file
    of somebody else's may ask for any amount of memory. Raises RunError, CheckpointError."""
    try:
        size = (folder / CHECKPOINT).stat().st_size
    except OSError as error:
        raise CheckpointError(f"there is no checkpoint {folder / CHECKPOINT}") from error
    try:
        number = num_weights(config)
    except (RuntimeError, RunError) as error:  # RuntimeError: more than any tensor holds
        raise RunError(f"{folder}/{CONFIG} asks for what cannot be built: {error}") from error
    if 4 * number > size:
        raise RunError(f"{folder}/{CONFIG} has {number:,} weights, more than {CHECKPOINT} holds")


def load_run(folder: str | Path, device: str = "cpu") -> tuple[nn.Module, nn.Module]:
    """The trained model and guide of a run.

    Raises RunError without a valid config.json, CheckpointError without its checkpoint.
    """
    config = read_config(folder).but(device=device)
    check_size(config, Path(folder))
    model, guide, _ = build_model(config)
    load_weights(Path(folder) / CHECKPOINT, model, guide)
    return model.eval(), guide.eval()


@dataclass
class SavedRun:
    """A finished run. names: the modalities of the model."""

    folder: Path
    config: Config
    model: nn.Module
    guide: nn.Module
    data: PairedData
    device: str
    _found: dict[tuple[str, str], dict[str, dict[str, np.ndarray]]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return self.config.modelled

    @property
    def unimodal(self) -> dict[str, nn.Module]:
        """modality -> its guide."""
        return dict(self.guide.unimodal.items())  # type: ignore[operator, union-attr]

    @property
    def test(self) -> dict[str, Examples]:
        return {name: self.data.test[name] for name in self.names}

    @property
    def num_clusters(self) -> int:
        return self.config.num_clusters or len(self.data.classes)

    def latents(self, partition: str = "test") -> dict[str, dict[str, np.ndarray]]:
        """Posterior means of the unimodal guides: latent -> modality -> ``[N, D]``; made once.

        partition: "test", or "train", of which there are at most 20,000, the same ones each time.
        """

        def find(name: str, examples: Examples) -> dict[str, np.ndarray]:
            return posterior_locs(self.unimodal[name], name, examples, self.device)

        return self._all("means", find, partition)

    def samples(self, partition: str = "test") -> dict[str, dict[str, np.ndarray]]:
        """As `latents`, one draw from the posterior of every example instead of its mean.

        Every partition and modality has a seed of its own: with noise in common they would seem
        alike.
        """

        def find(name: str, examples: Examples) -> dict[str, np.ndarray]:
            guide, seed = self.unimodal[name], crc32(f"{partition} {name}".encode())
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
        """What `latents` were inferred from."""
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
    root: Path | None = None,
    device: str = "auto",
    moved: Mapping[str, Any] | None = None,
) -> SavedRun:
    """A finished run. root, moved: as for `load_run_data`.

    Raises RunError, CheckpointError or CorpusError, saying what is missing or has changed.
    """
    config = read_config(folder)
    if not (folder / RESULTS).exists():
        raise RunError(f"{folder} is not finished: python experiments/run_svi.py --resume {folder}")
    device = resolve_device(device)
    model, guide = load_run(folder, device)
    data = load_run_data(config, folder, root, moved)
    return SavedRun(folder, config, model, guide, data, device)


def folder_within(folder: Path, name: str) -> Path:
    """The folder of that name in a run's folder, which commands write into; it may not exist yet.

    Raises RunError if it is a link: whoever made it had us write elsewhere.
    """
    path = Path(folder) / name
    if path.is_symlink():
        raise RunError(f"{path} is a link: nothing is written through it")
    return path
