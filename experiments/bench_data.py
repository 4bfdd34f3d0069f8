"""How fast sound becomes features on one core, and how fast they come back from the cache.

    python experiments/bench_data.py

Noise in WAV files of the rates that corpora have, 0.4 s each as spoken digits are, read and
turned into features in one process (times real time, median of some repeats); what looks for the
voice in it; then a corpus of 3,000 such recordings, as FSDD is, from the cache.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from experiments.arguments import number
from pvae_pyro.data.features import compute_features, corpus_features
from pvae_pyro.data.listing import Entry, list_corpus
from pvae_pyro.data.log_mel import LogMel
from pvae_pyro.data.voice_activity import VoiceActivity

# Recorded at, features at, in Hz: FSDD, Speech Commands, TIDIGITS, AudioMNIST.
RATES = ((8000, 8000), (16000, 16000), (20000, 20000), (48000, 16000))
SECONDS = 0.4
NUM_CACHED = 3000


def files(folder: Path, rate: int, count: int) -> list[Entry]:
    rng = np.random.default_rng(rate)
    entries = []
    for n in range(count):
        path = folder / f"{rate}-{n}.wav"
        soundfile.write(path, rng.normal(0, 0.1, round(SECONDS * rate)), rate)
        entries.append(Entry(path, path.name, "0", "s", "train"))
    return entries


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    natural = number(int, above=0)
    parser.add_argument("--files", type=natural, default=500, help="of each rate (500)")
    parser.add_argument("--repeats", type=natural, default=5, help="(5)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print(f"{'recorded':>9}{'features':>10}{'x real time':>13}{'least':>9}")
        for recorded, at in RATES:
            corpus = list_corpus("noise", at, files(folder, recorded, arguments.files))
            times = []
            for repeat in range(arguments.repeats + 1):  # the first one warms up
                started = time.perf_counter()
                cache = folder / f"{recorded}-{repeat}"
                compute_features(corpus, LogMel(at), cache, workers=1, progress=False)
                times.append(arguments.files * SECONDS / (time.perf_counter() - started))
            middle, least = statistics.median(times[1:]), min(times[1:])
            print(f"{recorded:6} Hz{at:7} Hz{middle:13.0f}{least:9.0f}")
        samples = np.random.default_rng(0).normal(0, 0.1, round(SECONDS * 16000))
        detector, times = VoiceActivity(), []
        for _ in range(arguments.repeats + 1):
            started = time.perf_counter()
            for _ in range(arguments.files):
                detector.span(samples, 16000)
            times.append(arguments.files * SECONDS / (time.perf_counter() - started))
        print(f"\nvoice activity at 16000 Hz: {statistics.median(times[1:]):.0f} x real time")
        corpus = list_corpus("noise", 8000, files(folder, 8000, NUM_CACHED))
        compute_features(corpus, LogMel(8000), folder / "cache", progress=False)
        started = time.perf_counter()
        corpus_features(corpus, LogMel(8000), folder / "cache", progress=False)
        seconds = time.perf_counter() - started
        print(f"{NUM_CACHED:,} recordings from the cache in {seconds:.2f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
