"""How fast sound becomes features on one core, and how fast they come back from the cache.

    python experiments/bench/data.py

Noise in WAV files of the rates that corpora have, 0.4 s each as spoken digits are, read and
turned into features in one process (times real time, median of some repeats); what looks for the
voice in it; then a corpus of 3,000 such recordings, as FSDD is, from the cache.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import tempfile
from functools import partial
from itertools import count

import numpy as np
import soundfile

from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.audio.voice_activity import VoiceActivity
from pvae_pyro.data.features import compute_features, corpus_features
from pvae_pyro.data.listing import Entry, list_corpus
from pvae_pyro.experiments.bench.work import Times, interleaved
from pvae_pyro.experiments.support.arguments import number
from pvae_pyro.experiments.support.errors import entry

# Recorded at, features at, in Hz: FSDD, Speech Commands, TIDIGITS, AudioMNIST.
RATES = ((8000, 8000), (16000, 16000), (20000, 20000), (48000, 16000))
SECONDS = 0.4
NUM_CACHED = 3000


def make_files(folder: Path, rate: int, number_of: int) -> list[Entry]:
    rng = np.random.default_rng(rate)
    entries = []
    for n in range(number_of):
        path = folder / f"{rate}-{n}.wav"
        soundfile.write(path, rng.normal(0, 0.1, round(SECONDS * rate)), rate)
        entries.append(Entry(path, path.name, "0", "s", "train"))
    return entries


def feature_rates(folder: Path, files: int, repeats: int) -> dict[tuple[int, int], Times]:
    """Seconds to read and analyse that many recordings: (recorded at, features at) -> times."""
    corpora = {
        (recorded, at): list_corpus("noise", at, make_files(folder, recorded, files))
        for recorded, at in RATES
    }
    caches = (folder / f"cache-{n}" for n in count())  # nothing is ever found there

    def compute(rates: tuple[int, int]) -> None:
        log_mel = LogMel(rates[1])
        compute_features(corpora[rates], log_mel, next(caches), workers=1, progress=False)

    return interleaved({rates: partial(compute, rates) for rates in RATES}, repeats, warm_up=1)


@entry()
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    natural = number(int, above=0)
    parser.add_argument("--files", type=natural, default=500, help="of each rate (500)")
    parser.add_argument("--repeats", type=natural, default=5, help="(5)")
    arguments = parser.parse_args(argv)
    seconds = arguments.files * SECONDS
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print(f"{'recorded':>9}{'features':>10}{'x real time':>13}{'least':>9}")
        for rates, time in feature_rates(folder, arguments.files, arguments.repeats).items():
            print("{:6} Hz{:7} Hz".format(*rates), end="")
            print(f"{seconds / time.middle:13.0f}{seconds / time.most:9.0f}")
        samples = np.random.default_rng(0).normal(0, 0.1, round(SECONDS * 16000))
        detector = VoiceActivity()

        def detect() -> None:
            for _ in range(arguments.files):
                detector.span(samples, 16000)

        found = interleaved({"voice": detect}, arguments.repeats, warm_up=1)["voice"]
        print(f"\nvoice activity at 16000 Hz: {seconds / found.middle:.0f} x real time")
        corpus = list_corpus("noise", 8000, make_files(folder, 8000, NUM_CACHED))
        compute_features(corpus, LogMel(8000), folder / "cache", progress=False)
        cached = partial(corpus_features, corpus, LogMel(8000), folder / "cache", progress=False)
        loaded = interleaved({"cache": cached}, 1, warm_up=0)["cache"]
        print(f"{NUM_CACHED:,} recordings from the cache in {loaded.middle:.2f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
