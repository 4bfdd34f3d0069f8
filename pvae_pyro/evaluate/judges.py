"""Classifiers trained on real data, to judge what a model generates."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from torch import nn

from pvae_pyro.batch import Observation
from pvae_pyro.data.cache import Arrays, cache_dir, cached_arrays, digest
from pvae_pyro.data.examples import Examples
from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun
from pvae_pyro.nn import classifiers

_LEARNING_RATE = 3e-3  # at the top of its cycle


def train_judge(
    train: Examples,
    num_classes: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
    *,
    steps: int = 1000,
    batch_size: int = 64,
    limit: int = 20_000,
) -> nn.Module:
    """A classifier of one modality: observation -> logits ``[B, num_classes]``.

    It learns from real examples and their labels, normalised as the model sees them and varied at
    random (`pvae_pyro.nn.classifiers`), and shares nothing with any model. Cross-entropy with
    labels smoothed by 0.1, AdamW, one cycle of the learning rate.

    Args:
        train: sequences ``[T, F]``, pictures ``[C, H, W]`` or vectors ``[D]``; the training
            partition.
        seed: it fixes the result. The random state of the caller does not change.
        limit: use at most this many examples, drawn at random.

    Raises ValueError for examples of another shape.
    """
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        judge = _untrained(train, num_classes).to(device).train()
        optim = torch.optim.AdamW(judge.parameters(), lr=_LEARNING_RATE, weight_decay=0.01)
        # OneCycleLR fails for very few steps.
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optim, max_lr=_LEARNING_RATE, total_steps=max(steps, 10)
        )
        kept = rng.permutation(len(train))[:limit]
        for index in _batches(kept, batch_size, steps, rng):
            observation = judge.varied(train.observation(index).to(device))
            labels = torch.from_numpy(train.labels[index].astype(np.int64)).to(device)
            loss = nn.functional.cross_entropy(judge(observation), labels, label_smoothing=0.1)
            optim.zero_grad()
            loss.backward()
            optim.step()
            schedule.step()
    return judge.eval()


def cached_judge(
    train: Examples,
    num_classes: int,
    folder: str | Path,
    device: torch.device | str = "cpu",
    *,
    steps: int = 1000,
) -> nn.Module:
    """As `train_judge`, trained once and kept in `folder` as ``<digest>.safetensors``.

    The digest is of the training data, the settings and the code of judges.
    """

    def compute() -> Arrays:
        judge = train_judge(train, num_classes, device=device, steps=steps)
        return {k: v.detach().cpu().numpy() for k, v in judge.state_dict().items()}, {}

    code = inspect.getsource(classifiers) + inspect.getsource(train_judge)
    seen = (train.values, train.labels, train.offsets, train.normalisation, num_classes, steps)
    key = digest(joblib.hash(seen), code)
    weights, _ = cached_arrays(key, compute, folder)
    with torch.random.fork_rng():
        judge = _untrained(train, num_classes)
    judge.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return judge.to(device).eval()


def class_judges(run: TrainedRun, settings: MeasureSettings) -> dict[str, nn.Module]:
    """modality -> a cached judge of the classes."""
    size = len(run.data.classes)
    return {name: _judge_of(run, settings, run.data.train[name], size) for name in run.names}


def speaker_judges(
    run: TrainedRun, settings: MeasureSettings
) -> dict[str, tuple[nn.Module, list[str]]]:
    """modality -> a cached judge of the groups, and their names.

    Only of modalities with several groups (speakers), all of the test partition's among them.
    """
    found = {}
    for name in run.names:
        train = run.data.train[name]
        groups = sorted(set(train.groups))
        if len(groups) > 1 and set(run.test[name].groups) <= set(groups):
            labels = np.searchsorted(np.array(groups), np.array(train.groups))
            judge = _judge_of(run, settings, replace(train, labels=labels), len(groups))
            found[name] = judge, groups
    return found


def _judge_of(
    run: TrainedRun, settings: MeasureSettings, train: Examples, num_classes: int
) -> nn.Module:
    folder = cache_dir() / "judges"
    return cached_judge(train, num_classes, folder, run.device, steps=settings.judge_steps)


@torch.no_grad()
def judged(
    judge: nn.Module,
    observation: Observation,
    device: torch.device | str = "cpu",
    chunk: int = 500,
) -> np.ndarray:
    """The most probable class of each example, ``[B]``; `chunk` of them at a time."""
    return _of_each(lambda some: judge(some).argmax(-1), observation, device, chunk)


@torch.no_grad()
def judge_features(
    judge: nn.Module,
    observation: Observation,
    device: torch.device | str = "cpu",
    chunk: int = 500,
) -> np.ndarray:
    """What the judge's last layer sees of each example, ``[B, D]``; `chunk` of them at a time."""
    features: Any = judge.features
    return _of_each(features, observation, device, chunk)


def _of_each(
    function: Callable[[Observation], torch.Tensor],
    observation: Observation,
    device: torch.device | str,
    chunk: int,
) -> np.ndarray:
    starts = range(0, len(observation.value), chunk)
    parts = (observation.part(start, start + chunk).to(device) for start in starts)
    return np.concatenate([function(part).cpu().numpy() for part in parts])


def judged_examples(
    judge: nn.Module, examples: Examples, device: torch.device | str = "cpu", chunk: int = 500
) -> np.ndarray:
    """`judged` of real examples, of which `chunk` at a time are normalised."""
    starts = range(0, len(examples), chunk)
    parts = (np.arange(start, min(start + chunk, len(examples))) for start in starts)
    return np.concatenate([judged(judge, examples.observation(part), device) for part in parts])


def judge_accuracy(
    judge: nn.Module, examples: Examples, device: torch.device | str = "cpu", chunk: int = 500
) -> float:
    """Fraction of real examples that are judged to be of their label's class."""
    return float((judged_examples(judge, examples, device, chunk) == examples.labels).mean())


def _untrained(examples: Examples, num_classes: int) -> classifiers.Judge:
    shape = examples.observation(np.arange(1)).value.shape[1:]
    if examples.lengths is not None:
        return classifiers.SequenceJudge(shape[-1], num_classes)
    if len(shape) == 1:
        return classifiers.VectorJudge(shape[0], num_classes)
    if len(shape) != 3:
        raise ValueError(
            f"judges are for sequences, pictures [C, H, W] and vectors; got {tuple(shape)}"
        )
    channels, height, width = shape
    return classifiers.PictureJudge((channels, height, width), num_classes)


def _batches(
    kept: np.ndarray, batch_size: int, steps: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Indices of `steps` batches; each index is used once before any is repeated."""
    size = min(batch_size, len(kept))
    passes = -(-steps * size // len(kept))
    order = np.concatenate([rng.permutation(kept) for _ in range(passes)])
    return [order[n * size : (n + 1) * size] for n in range(steps)]
