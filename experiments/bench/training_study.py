"""Seconds of training until z_sem is as pure as asked, by run_svi's own step and by plain torch.

    PVAE_DATA=/my/data python experiments/bench/training_study.py [--dataset fsdd] [--json FILE]

Trainings from the same weights, on the same batches, of the paper's objective at the quick preset's
size: `pvae_pyro`, and the objective by hand in torch with padded and with packed nn.LSTM. Every
`--every` steps the clock stops while z_sem's purity on the test partition is measured; training
never sees it.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyro
import torch
from torch import nn
from tqdm import tqdm

from pvae_pyro.batch import Batch
from pvae_pyro.data.cache import data_root
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.data.paired import PairedData
from pvae_pyro.evaluate.run import evaluate_latents
from pvae_pyro.experiments.bench.plain import PackedLSTM, PaddedLSTM, PlainPVAE
from pvae_pyro.experiments.run_svi import longest
from pvae_pyro.experiments.support.arguments import place
from pvae_pyro.experiments.support.build import build
from pvae_pyro.experiments.support.data import load_data
from pvae_pyro.experiments.support.errors import entry
from pvae_pyro.experiments.support.options import make_parser, resolve
from pvae_pyro.io.provenance import environment, write_json
from pvae_pyro.svi import SVI

WANTED = {"speech": 0.97, "image": 0.96}


def seconds_to_purity(
    svi: SVI, step: Callable[[Batch], object], data: PairedData, config: dict[str, Any], every: int,
    most: int,
) -> dict[str, Any]:  # fmt: skip
    """Train until z_sem is `WANTED`, or for `most` steps; returns how it went."""
    loader = PairedLoader(data.train, config.batch_size, seed=config.seed)
    pyro.set_rng_seed(config.seed)
    seconds, done, curve = 0.0, 0, []
    batches = (batch for epoch in range(most) for batch in loader.epoch(epoch))
    for _ in tqdm(range(most), unit="step", mininterval=0.5 if sys.stderr.isatty() else 30):
        started = time.perf_counter()
        with pyro.validation_enabled(False):
            step(next(batches))
        seconds += time.perf_counter() - started
        done += 1
        if done % every:
            continue
        with torch.random.fork_rng():
            scores = evaluate_latents(svi.guide.unimodal, data.test, len(data.classes), "cpu")
        purity = scores["purity"]["z_sem"]
        curve.append({"step": done, "seconds": round(seconds, 2), **purity})
        if all(purity[name] >= wanted for name, wanted in WANTED.items()):
            return {"reached": True, "seconds": seconds, "steps": done, "curve": curve}
    return {"reached": False, "seconds": seconds, "steps": done, "curve": curve}


@entry()
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dataset", default="fsdd")
    add("--every", type=int, default=90, metavar="N", help="steps between measurements (90)")
    add("--steps", type=int, default=3200, metavar="N", help="of each training, at most (3200)")
    add("--num-cells", default="256", metavar="N", help="of each LSTM (256)")
    add("--json", type=place, metavar="FILE", help="write the figures there")
    arguments = parser.parse_args(argv)
    options = ["--dataset", arguments.dataset, "--device", "cpu", "--objective", "paper"]
    options += ["--preset", "quick", "--num-cells", arguments.num_cells]
    config = resolve(make_parser("").parse_args(options))
    data = load_data(config, data_root())
    config |= longest(data)
    made_by = environment()  # of now, not of minutes later
    figures = {}
    kinds = {"torch, nn.LSTM padded": PaddedLSTM, "torch, nn.LSTM packed": PackedLSTM}
    for name, kind in {"pvae_pyro": None, **kinds}.items():
        svi = build(config)
        step = svi.update if kind is None else _by_hand(svi, config, kind)
        figures[name] = seconds_to_purity(svi, step, data, config, arguments.every, arguments.steps)
        shown = {key: value for key, value in figures[name].items() if key != "curve"}
        print(f"{data.corpus}: {name}: {json.dumps(shown)}", flush=True)
    if arguments.json:
        about = {
            "corpus": data.corpus,
            "threads": torch.get_num_threads(),
            "config": config,
            "wanted": WANTED,
        }
        write_json(arguments.json, {**figures, **about, **made_by})
    return 0


def _by_hand(svi: SVI, config: dict[str, Any], kind: type[nn.LSTM]) -> Callable[[Batch], object]:
    plain = PlainPVAE(svi, config, kind)

    def step(batch: Batch) -> None:
        svi.optim.zero_grad()
        plain(batch).backward()
        svi.optim.step()

    return step


if __name__ == "__main__":
    raise SystemExit(main())
