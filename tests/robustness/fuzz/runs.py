"""The files of a run's folder: what it was, what it learned, how it did."""

import contextlib
import hashlib
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import torch
from safetensors import safe_open

from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.experiments import report
from pvae_pyro.experiments.evaluate import EVALUATION, FORMAT, measured_before, summary
from pvae_pyro.experiments.figures import METRICS
from pvae_pyro.experiments.generate import normalisations
from pvae_pyro.experiments.support.build import build
from pvae_pyro.experiments.support.errors import RunError
from pvae_pyro.experiments.support.options import make_parser, resolve
from pvae_pyro.experiments.support.paper_table import table
from pvae_pyro.experiments.support.results_file import read_results
from pvae_pyro.experiments.support.saved_run import CONFIG, RESULTS, load_run, read_config
from pvae_pyro.experiments.support.table_rows import aggregate, markdown
from pvae_pyro.figures.curves import curves_figure, read_metrics
from pvae_pyro.figures.inertia import inertia_figure
from pvae_pyro.svi import SVI
from pvae_pyro.training.checkpoint import (
    CheckpointError,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    sealed,
)
from pvae_pyro.training.loop import CHECKPOINT, Progress, _progress
from tests.robustness.fuzz.mutate import (
    in_order,
    json_file,
    mutated,
    mutated_json,
    parts_of_safetensors,
    safetensors_of,
)
from tests.robustness.fuzz.reader import Reader

_KEPT = {
    name: torch.tensor(float(value))
    for value, name in enumerate(("speech.loc", "speech.scale", "image.loc", "image.scale"), 1)
}


def _config() -> dict[str, Any]:
    options = make_parser(None).parse_args(
        ["--device", "cpu", "--num-cells", "4", "--semantic-dim", "2", "--style-dim", "2"]
    )
    found = {"epochs": 2, "max_frames": 9, "sample_rate_of_features": 8000, "data_digest": "0"}
    return {**resolve(options), **found, "corpus": "a corpus", "stand_in": False}


CONFIGURATION = _config()


def _scores(of: float) -> dict[str, dict[str, float]]:
    return {latent: {"speech": of, "image": of / 2} for latent in ("z_sem", "z_style")}


RESULT: dict[str, Any] = {
    **{score: _scores(0.5) for score in ("purity", "nmi", "ari", "hungarian")},
    "active_units": {latent: {"speech": 0, "image": 2} for latent in ("z_sem", "z_style")},
    "test_terms": {f"kl/{s}": 1.5 for s in ("z_sem", "z_style_speech", "z_style_image")},
    "corpus": "a corpus",
    "stand_in": True,
    "dataset": "fsdd",
    "model": "pvae",
    "classes": ["0", "1"],
    "remarks": ["few"],
    "left_out": {"silent": 2},
    "preset": "quick",
    "seed": 0,
    "device": "cpu",
    "processes": 1,
    "epochs": 2,
    "steps": 40,
    "seconds_training": 1.5,
    "seconds_evaluating": 0.5,
    "config": CONFIGURATION,
    "versions": {"torch": "2"},
    "platform": "x",
    "lstm_cell": "c",
    "git_commit": None,
}
_PROBE = {"class": {"accuracy": 0.5, "chance": 0.1}, "speaker": {"accuracy": None, "chance": None}}
_CLASSES = {
    "speech": {"agreed": 2, "agreed_by": 2, "criteria": {"density": 2}, "inertia": [3.0, 2.0, 1.0]},
    "image": {"agreed": None, "reason": "hardly in use"},
}
EVALUATED: dict[str, Any] = {
    **{score: _scores(0.5) for score in ("purity", "nmi", "ari", "hungarian")},
    "active_units": RESULT["active_units"],
    "num_classes": {"z_sem": _CLASSES},
    "probes": {"z_sem": {"speech": _PROBE}},
    "retrieval": {"z_sem": {"speech->image": {"recall_at_1": 0.5, "mrr": 0.6}}},
    "coherence": {"speech->image": 0.9, "judge_accuracy": {"image": 0.8}},
    "style_swap": {"speech": {"content_class": 0.9}},
    "styles": {"kept": {"image": {"slant": {"style": 0.9}}}, "diversity": {"a": {"b": 0.5}}},
    "recognised": {"reason": "no"},
    "log_likelihood": {"joint": {"mean": -1.0, "se": 0.1}},
    "format": FORMAT,
    "stand_in": False,
    "corpus": "a corpus",
}


def _prepare_config(folder: Path) -> Callable[[bytes], None]:
    """Read, and the model built and its weights loaded."""
    run = folder / "run"
    run.mkdir()
    save_checkpoint(run / CHECKPOINT, build(CONFIGURATION), {}, _KEPT)

    def read(content: bytes) -> None:
        (run / CONFIG).write_bytes(content)
        config = read_config(run)
        assert config.num_cells >= 1
        model, guide = load_run(run)
        assert not model.training
        assert not guide.training

    return read


def _svi() -> SVI:
    """The least that can be saved."""
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=1e-3)
    return SVI(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2), adam, PartitionedELBO())


def _step(svi: SVI) -> None:
    svi.optim.zero_grad()
    sum(parameter.square().sum() for parameter in svi.parameters()).backward()
    svi.optim.step()


def _prepare_checkpoint(folder: Path) -> Callable[[bytes], None]:
    path = folder / CHECKPOINT
    svi = _svi()

    def read(content: bytes) -> None:
        path.write_bytes(content)
        errors: list[CheckpointError] = []
        for what in (
            lambda: load_weights(path, svi.model, svi.guide),
            lambda: normalisations(path, ("speech", "image")),
            lambda: _progress(path, load_checkpoint(path, svi)),
        ):
            try:
                what()
            except CheckpointError as error:
                errors.append(error)
        if errors:
            raise errors[-1]
        assert all(parameter.isfinite().all() for parameter in svi.parameters())
        _step(svi)

    return read


def _checkpoint() -> bytes:
    svi = _svi()
    _step(svi)
    return _saved(svi)


def _saved(svi: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CHECKPOINT
        save_checkpoint(path, svi, vars(Progress()), _KEPT)
        return in_order(path.read_bytes())


def _mutate_checkpoint(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Other bytes; another header; or other tensors and positions under a right checksum."""
    kind = rng.random()
    if kind < 0.3:
        return mutated(rng, seeds, (b"F32", b"BF16", b"data_offsets", b"__metadata__", b"shape"))
    if kind < 0.5:
        header, tensors = parts_of_safetensors(rng.choice(seeds))
        return safetensors_of(mutated_json(rng, header), tensors)
    changed, position = dict(_TENSORS), json.loads(_HEADER)
    for _ in range(rng.choice((1, 1, 3))):
        name = rng.choice(sorted(changed))
        value = changed[name]
        change = rng.randrange(7)
        if change == 0:
            del changed[name]
        elif change == 1:
            changed[name] = value.reshape(-1)[: rng.randrange(value.numel() + 1)].clone()
        elif change == 2:
            kinds = (torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.uint8)
            changed[name] = value.to(rng.choice(kinds))
        elif change == 3 and value.numel():
            spoilt = value.clone()
            extreme = rng.choice((0.0, 255.0, float("nan"), float("inf"), 3e38))
            extreme = extreme if value.is_floating_point() else 255
            spoilt.view(-1)[rng.randrange(value.numel())] = extreme
            changed[name] = spoilt
        elif change == 4:
            changed[
                rng.choice((f"{name}x", "optim.0.x", "optim.-1.step", "optim.²", "rng.9.cpu"))
            ] = value
        elif change == 5:
            changed[name] = torch.zeros(1000)
        else:
            position = mutated_json(rng, position)
    return in_order(sealed({k: v.clone() for k, v in changed.items()}, json.dumps(position)))


SEED = _checkpoint()


def _opened(content: bytes) -> tuple[dict[str, torch.Tensor], str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(content)
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, file.metadata()["pvae_pyro"]


_TENSORS, _HEADER = _opened(SEED)


def _prepare_results(folder: Path) -> Callable[[bytes], None]:
    """All that is made of them: a table of several, a report, what the command prints."""
    path = folder / RESULTS

    def read(content: bytes) -> None:
        path.write_bytes(content)
        purities = read_results(path, whole=False)
        with contextlib.suppress(ValueError):  # of runs that are no one table
            markdown(aggregate([("pvae", purities), ("pvae", RESULT)]))
        results = read_results(path)
        for part in (report._lead, report._what_was_run, report._results):
            part(results).encode()
        table(results).encode()

    return read


def _prepare_evaluation(folder: Path) -> Callable[[bytes], None]:
    (folder / CHECKPOINT).write_bytes(b"weights")
    run: Any = SimpleNamespace(folder=folder)

    def read(content: bytes) -> None:
        (folder / EVALUATION).write_bytes(content)
        content = measured_before(run)
        if content:
            summary({"stand_in": False, "corpus": "a corpus"} | content)
            report._measures(run, content).encode()
            for found in content.get("num_classes", {}).values():
                if agreed := {name: one for name, one in found.items() if one["agreed"]}:
                    inertia_figure(agreed)
                    plt.close("all")

    return read


def _json(values: Sequence[Any], rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    return json_file(rng, values)


def _prepare_metrics(folder: Path) -> Callable[[bytes], None]:
    path = folder / METRICS

    def read(content: bytes) -> None:
        path.write_bytes(content)
        try:
            records = read_metrics(path)
            assert all(isinstance(n, (int, float)) for r in records for n in r.values())
            curves_figure(records)
        except ValueError as error:  # as of `figures.curves`
            raise ValueError(f"{path}: {error}") from error
        plt.close("all")

    return read


_RECORDS = [
    {"epoch": n, "step": 10 * n, "seconds": 0.5, "objective": -9.0 + n, "log_prob/image": -5.0}
    for n in (1, 2, 3)
]


def _lines(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    if rng.random() < 0.3:
        return mutated(rng, seeds, (b"NaN", b"\n", b"\xe2\x80\xa8", b"\x85"))
    lines = [json.dumps(record).encode() for record in _RECORDS]
    lines[rng.randrange(3)] = json_file(rng, _RECORDS)
    return b"\n".join([*lines, b""])


def _encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


_EVALUATED = EVALUATED | {"checkpoint": hashlib.sha256(b"weights").hexdigest()}

RUNS = [
    Reader(
        "configuration",
        _prepare_config,
        [_encoded(CONFIGURATION)],
        partial(_json, [CONFIGURATION]),
        (RunError, CheckpointError),
        "run",
    ),
    Reader(
        "checkpoint",
        _prepare_checkpoint,
        [SEED],
        _mutate_checkpoint,
        (CheckpointError,),
        CHECKPOINT,
    ),
    Reader(
        "results",
        _prepare_results,
        [_encoded(RESULT)],
        partial(_json, [RESULT]),
        (RunError,),
        RESULTS,
    ),
    Reader(
        "evaluation",
        _prepare_evaluation,
        [_encoded(_EVALUATED)],
        partial(_json, [_EVALUATED]),
        (RunError,),
        EVALUATION,
    ),
    Reader(
        "metrics",
        _prepare_metrics,
        [b"\n".join([*map(_encoded, _RECORDS), b""])],
        _lines,
        (ValueError,),
        METRICS,
    ),
]
