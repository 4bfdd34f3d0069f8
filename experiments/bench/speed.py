"""How fast training is beside what this machine can do, and beside what most people would write.

    python experiments/bench/speed.py [--json FILE] [--repeats 7] [--threads 2]

In one process, in interleaved repeats (median, least and most seconds):

* the limit: a large matrix product, by torch.mm and by oneDNN as torch has it; the faster counts;
* a ragged LSTM, forward and backward, at the paper's size, against nn.LSTM, packed and padded, and
  against its own matrix products, each by the faster library;
* a whole training step against the same objective by hand in torch: with packed nn.LSTM, and with
  our networks, which leaves what Pyro costs; also once glibc keeps freed memory (`tuned`);
* data: the loader's share of an epoch, features in times real time, peak memory of training;
* two processes of one thread each against one, by torchrun.

GFLOP/s are useful ones: products of frames that exist. Lengths are those of FSDD's recordings and
of TIDIGITS' words where they are found ($PVAE_DATA), else log-normal ones much like them. The
machine should have nothing else to do.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import count
from statistics import median
from typing import Any, Literal

import numpy as np
import pyro
import soundfile
import torch
from torch import Tensor, nn

from pvae_pyro.batch import Batch, Observation
from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.cache import data_root
from pvae_pyro.data.features import compute_features
from pvae_pyro.data.listing import Entry, list_corpus
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.experiments.bench.noise import Case, measure, synthetic
from pvae_pyro.experiments.bench.plain import PackedLSTM, PaddedLSTM, PlainPVAE
from pvae_pyro.experiments.bench.work import (
    Times,
    counted_operations,
    draw_lengths,
    interleaved,
    keep_freed_memory,
    lstm_operations,
)
from pvae_pyro.experiments.support.arguments import number, place
from pvae_pyro.experiments.support.build import build
from pvae_pyro.experiments.support.command import entry
from pvae_pyro.experiments.support.config import PRESETS, Config, Options
from pvae_pyro.io.provenance import environment, write_json
from pvae_pyro.nn.lstm.recurrent import RaggedLSTM
from pvae_pyro.nn.packing import Packing

FEATURES, LATENT = 80, 64
LARGE = ((3072, 3072, 3072), (1024, 3072, 1024))  # the latter's result stays in a cache
PAPER, QUICK = PRESETS["paper"], PRESETS["quick"]
Runs = dict[str, Callable[[], object]]


def one_dnn(x: Tensor, weight: Tensor) -> Callable[[], Tensor] | None:
    """x weightᵀ by oneDNN, the weight packed beforehand; None where torch lacks it."""
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, len(x))
        product = partial(torch.ops.mkldnn._linear_pointwise, x, packed, None, "none", [], "")
        product()
    except (AttributeError, RuntimeError):
        return None
    return product


def limit(repeats: int) -> dict[str, float]:
    """GFLOP/s of one large product, by library, of the size that suits it best."""
    rates: dict[str, float] = {}
    for rows, inner, columns in LARGE:
        a, b = torch.randn(rows, inner), torch.randn(columns, inner)
        runs: Runs = {"torch.mm": partial(torch.mm, a, b.t(), out=torch.empty(rows, columns))}
        if (product := one_dnn(a, b)) is not None:
            runs["oneDNN"] = product
        for name, time in interleaved(runs, 3 * repeats).items():
            rate = 2 * rows * inner * columns / time.middle / 1e9
            rates[name] = max(rate, rates.get(name, 0.0))
    return rates


def own_products(lstm: RaggedLSTM, packing: Packing) -> list[list[Callable[[], object]]]:
    """The products of one forward and backward pass: for each kind, how each library does it."""
    hidden, frames, gates = lstm.hidden_size, len(packing.frame), 4 * lstm.hidden_size
    inputs, first = hidden + lstm.input_size, len(packing.order)
    kinds: list[list[Callable[[], object]]] = []
    # Forward and backward; h_0 is zero, so the first step has but its input to multiply.
    for rows, columns in ((inputs, gates), (gates, hidden)):
        with_mm: list[Callable[[], object]] = []
        with_dnn: list[Callable[[], object] | None] = []
        right = torch.randn(rows, columns)
        for alive in packing.alive[1:].tolist():
            left = torch.randn(alive, rows)
            with_mm.append(partial(torch.mm, left, right, out=torch.empty(alive, columns)))
            with_dnn.append(one_dnn(left, right.t().contiguous()))
        whole = [run for run in with_dnn if run is not None]
        ways = [with_mm] + ([whole] if len(whole) == len(with_dnn) else [])
        kinds.append([partial(_all, way) for way in ways])
    x, w_ih = torch.randn(first, lstm.input_size), torch.randn(gates, lstm.input_size)
    kinds.append([partial(torch.mm, x, w_ih.t()), *filter(None, [one_dnn(x, w_ih)])])
    left, right = torch.randn(frames - first, gates), torch.randn(frames - first, inputs)
    weights: list[Callable[[], object]] = [partial(torch.mm, left.t(), right)]
    if torch.backends.mkldnn.is_available():
        blocked = (left.to_mkldnn(), right.to_mkldnn(), torch.randn(gates, inputs).to_mkldnn())
        weights.append(partial(torch.ops.aten.mkldnn_linear_backward_weights, *blocked, False))
    x, of_x = torch.randn(first, lstm.input_size), torch.randn(first, gates)
    return [*kinds, weights, [partial(torch.mm, of_x.t(), x)]]


def _all(runs: list[Callable[[], object]]) -> None:
    for run in runs:
        run()


def compare_lstm(lengths: Tensor, cells: int, repeats: int, gflops: float) -> dict[str, float]:
    """Print the table of the LSTM; returns its figures."""
    batch, longest = len(lengths), int(lengths.max())
    x, z = torch.randn(batch, longest, FEATURES), torch.randn(batch, LATENT)
    packing = Packing.of(lengths, longest)
    encoder, decoder = RaggedLSTM(FEATURES, cells), RaggedLSTM(LATENT, cells)
    packed = PackedLSTM(FEATURES, cells, batch_first=True)
    padded = PaddedLSTM(FEATURES, cells, batch_first=True)
    kinds = own_products(encoder, packing)
    runs: Runs = {
        "nn.LSTM, packed": _train(packed, lambda: packed.last_state(x, lengths)),
        "nn.LSTM, padded": _train(padded, lambda: padded.last_state(x, lengths)),
        "ours, encoder": _train(encoder, lambda: encoder.last_state(x, packing)),
        "ours, decoder": _train(decoder, lambda: decoder.unroll(z, packing)),
    }
    runs |= {
        f"{kind} {way}": run for kind, ways in enumerate(kinds) for way, run in enumerate(ways)
    }
    times = interleaved(runs, repeats)
    products = sum(
        min(times[f"{kind} {way}"].middle for way in range(len(ways)))
        for kind, ways in enumerate(kinds)
    )
    work = lstm_operations(encoder, len(packing.frame), batch, False, False)
    decoding = lstm_operations(decoder, len(packing.frame), batch, True, False)
    print(f"LSTM, batch {batch}, {cells} cells, {len(packing.frame)} frames, longest {longest}")
    rows = [name for name in runs if not name[0].isdigit()]
    for name in rows:
        operations = decoding if name == "ours, decoder" else work
        _print(name, times[name], times["nn.LSTM, packed"], operations, gflops)
    ours = times["ours, encoder"].middle
    print(f"{'its products alone':24}{products:9.3f}\n")
    return {
        "lstm_seconds": ours,
        "lstm_gflops": work / ours / 1e9,
        "lstm_fraction_of_limit": work / ours / 1e9 / gflops,
        "lstm_fraction_of_own_products": products / ours,
        "lstm_speedup_vs_packed": times["nn.LSTM, packed"].middle / ours,
        "lstm_speedup_vs_padded": times["nn.LSTM, padded"].middle / ours,
        "lstm_decoder_fraction_of_limit": decoding / times["ours, decoder"].middle / 1e9 / gflops,
    }


def _train(module: nn.Module, forward: Callable[[], Tensor]) -> Callable[[], None]:
    gradient = torch.randn(forward().shape)

    def run() -> None:
        module.zero_grad()
        forward().backward(gradient)

    return run


def compare_steps(
    lengths: Tensor, cells: int, repeats: int, gflops: float, title: str
) -> dict[str, float]:
    """Print the table of a whole step, Adam included; returns its figures."""
    batch = make_batch(lengths)
    config = _config("paper", cells, lengths)
    svi = build(config)
    with counted_operations(nn.ModuleList([svi.model, svi.guide])) as counts:
        svi.terms(batch)
    work = sum(counts)
    runs: Runs = {}
    kinds = {"torch, nn.LSTM packed": PackedLSTM, "torch, nn.LSTM padded": PaddedLSTM}
    for name, lstm in {**kinds, "torch, our networks": None}.items():
        plain = PlainPVAE(svi_of_own := build(config), config, lstm)
        runs[name] = partial(_plain_step, plain, svi_of_own.optim, batch)
    runs["Pyro, our networks"] = partial(svi.update, batch)
    ours = build(_config("ours", cells, lengths))
    runs["the same, objective ours"] = partial(ours.update, batch)
    with pyro.validation_enabled(False):
        times = interleaved(runs, repeats)
    slowest = times["torch, nn.LSTM packed"]
    print(f"{title}: step, batch {len(lengths)}, {cells} cells, {work / 1e9:.1f} useful GFLOP")
    for name in runs:
        known = name != "the same, objective ours"
        _print(name, times[name], slowest, work if known else None, gflops)
    at_limit, step = work / gflops / 1e9, times["Pyro, our networks"].middle
    plain_step = times["torch, our networks"].middle
    print(f"{'useful work at the limit':24}{at_limit:9.3f}\n")
    return {
        "step_seconds": step,
        "step_seconds_objective_ours": times["the same, objective ours"].middle,
        "step_seconds_by_hand": plain_step,
        "step_seconds_packed": slowest.middle,
        "step_seconds_padded": times["torch, nn.LSTM padded"].middle,
        "step_speedup_vs_packed": slowest.middle / step,
        "step_speedup_vs_padded": times["torch, nn.LSTM padded"].middle / step,
        "step_time_over_limit": step / at_limit,
        "pyro_overhead": step / plain_step - 1,
    }


def _config(objective: Literal["paper", "ours"], cells: int, lengths: Tensor) -> Config:
    options = Options(device="cpu", objective=objective, num_cells=cells)
    return options.resolved("cpu").but(max_frames=int(lengths.max()))


def _plain_step(plain: nn.Module, optim: torch.optim.Optimizer, batch: Batch) -> None:
    optim.zero_grad()
    plain(batch).backward()
    optim.step()


def make_batch(lengths: Tensor) -> dict[str, Observation]:
    """Noise of these lengths, and images of it."""
    generator = torch.Generator().manual_seed(1)
    size = len(lengths), int(lengths.max()), FEATURES
    return {
        "speech": Observation(torch.randn(size, generator=generator), lengths),
        "image": Observation(torch.rand(len(lengths), 1, 28, 28, generator=generator)),
    }


def compare_ranks(case: Case, repeats: int) -> dict[str, float]:
    """Two processes of one thread against one: examples a second, each case in turn."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    if torch.distributed.is_available():
        for _ in range(min(repeats, 5)):
            for ranks, of in rates.items():
                seconds = measure(case, ranks=ranks, threads=1)["step_seconds"]
                of.append(case.batch / seconds)
    if not rates[2]:
        return {}
    middle = {ranks: median(of) for ranks, of in rates.items()}
    speedup = middle[2] / middle[1]
    print(f"processes of one thread, batch {case.batch} in all: ", end="")
    print(", ".join(f"{ranks}: {rate:.0f} examples/s" for ranks, rate in middle.items()), end="")
    print(f" ({speedup:.2f}×)")
    each = {f"examples_per_second_{ranks}_ranks": rate for ranks, rate in middle.items()}
    return {"ranks_speedup": speedup, **each}


def loader_seconds(repeats: int) -> tuple[float, int]:
    """Of an epoch of FSDD's size in batches of the paper's, and its batches."""
    examples = synthetic(Case(examples=2700, frames=44))
    loader = PairedLoader(examples, PAPER["batch_size"])
    times = interleaved({"epoch": lambda: [None for _ in loader.epoch(0)]}, repeats)
    return times["epoch"].middle, len(loader)


def features_rate(files: int = 200, repeats: int = 3) -> float:
    """Seconds of sound of which one core computes features in a second.

    The sound is noise in WAV files of 0.4 s and 8 kHz, about what FSDD's are.
    """
    rng, rate, seconds = np.random.default_rng(0), 8000, 0.4
    with tempfile.TemporaryDirectory() as name:
        folder, entries = Path(name), []
        for n in range(files):
            path = folder / f"{n}.wav"
            soundfile.write(path, rng.normal(0, 0.1, round(seconds * rate)), rate)
            entries.append(Entry(path, path.name, "0", "s", "train"))
        corpus = list_corpus("noise", rate, entries, progress=False)
        caches = (folder / f"cache-{n}" for n in count())  # nothing is ever found there

        def compute() -> None:
            compute_features(corpus, LogMel(rate), next(caches), workers=1, progress=False)

        return files * seconds / interleaved({"": compute}, repeats, warm_up=1)[""].middle


def _print(name: str, time: Times, slowest: Times, operations: int | None, gflops: float) -> None:
    spread = f"{time.least:.3f}–{time.most:.3f}"
    line = f"{name:24}{time.middle:9.3f}{spread:>16}{slowest.middle / time.middle:8.2f}×"
    if operations is not None:
        rate = operations / time.middle / 1e9
        line += f"{rate:8.0f} GFLOP/s{rate / gflops:7.2f} of the limit"
    print(line)


@entry()
def main(argv: list[str] | None = None) -> int:
    natural = number(int, above=0)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--json", type=place, metavar="FILE", help="write the figures there")
    add("--repeats", type=natural, default=7, help="(7)")
    add("--threads", type=natural, default=torch.get_num_threads(), help="(all)")
    add("--cells", type=natural, default=PAPER["num_cells"], help="of the paper's size (512)")
    add("--batch", type=natural, default=PAPER["batch_size"], help="of the paper's size (256)")
    arguments = parser.parse_args(argv)
    made_by = {**environment(), "threads": arguments.threads}  # of now, not of minutes later
    before = torch.get_num_threads()
    torch.set_num_threads(arguments.threads)
    try:
        figures = bench(arguments.cells, arguments.batch, arguments.repeats)
    finally:
        torch.set_num_threads(before)
    if arguments.json:
        write_json(arguments.json, {**figures, **made_by})
    return 0


def bench(cells: int, batch: int, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    rates, root = limit(repeats), data_root()
    gflops = max(rates.values())
    print("large matrix product, GFLOP/s: " + ", ".join(f"{k} {v:.0f}" for k, v in rates.items()))
    print("rows: seconds (least–most), times as fast as packed nn.LSTM, useful rate\n")
    figures: dict[str, Any] = {"matmul_gflops": gflops, "matmul_gflops_by_library": rates}
    lengths = draw_lengths("fsdd", root, batch)
    figures |= compare_lstm(lengths, cells, repeats, gflops)
    for_words = draw_lengths("tidigits", root, batch)
    print("with the lengths of TIDIGITS' words:")
    figures["tidigits"] = compare_lstm(for_words, cells, repeats, gflops)
    figures |= compare_steps(lengths, cells, repeats, gflops, "the paper's size")
    small = min(batch, QUICK["batch_size"]), min(cells, QUICK["num_cells"])
    figures["quick"] = compare_steps(lengths[: small[0]], small[1], repeats, gflops, "quick preset")
    epoch, batches = loader_seconds(repeats)
    figures["loader_share"] = epoch / (epoch + batches * figures["step_seconds"])
    figures["features_times_real_time"] = features_rate()
    whole = Case(cells=cells, batch=batch)  # of TIDIGITS' size
    figures["peak_memory_mib"] = measure(whole)["peak_memory_mib"]
    figures |= compare_ranks(Case(examples=40 * batch, cells=cells, batch=batch), repeats)
    print(f"loader's share of an epoch: {100 * figures['loader_share']:.1f} %")
    print(f"features: {figures['features_times_real_time']:.0f} × real time, one core, 8 kHz")
    memory = figures["peak_memory_mib"]
    print(f"peak memory, training on TIDIGITS' number of digits: {memory:.0f} MiB\n")
    if keep_freed_memory():  # last: it cannot be undone
        tuned = compare_steps(lengths, cells, repeats, gflops, "the same, glibc keeps memory")
        figures["tuned"] = tuned
        figures["step_speedup_vs_packed_tuned"] = tuned["step_speedup_vs_packed"]
    return figures


if __name__ == "__main__":
    raise SystemExit(main())
