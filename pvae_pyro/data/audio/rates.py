"""The sample rate of the features of recordings at several rates."""

from collections import Counter
from dataclasses import replace

from pvae_pyro.data.recording import SpeechCorpus


def at_lowest_rate(corpus: SpeechCorpus) -> SpeechCorpus:
    """The corpus with features at the lowest rate of its usable recordings, if it allows that.

    A recording contains nothing above half its rate. Notes tell of several rates.
    """
    counts = Counter(r.rate for r in corpus.recordings if r.rate is not None)
    lower = sorted(rate for rate in counts if rate < corpus.sample_rate)
    usable = next(
        (n for n in lower if any(r.rate == n and corpus.is_usable(r) for r in corpus.recordings)),
        None,
    )
    if usable is None:
        return corpus
    of = ", ".join(f"{number:,} at {rate} Hz" for rate, number in sorted(counts.items()))
    if not corpus.any_rate:
        told = f"features at {corpus.sample_rate} Hz have nothing above half the rate of some files"
        return replace(corpus, notes=(*corpus.notes, f"{told} ({of})"))
    if len(counts) > 1:
        told = f"features are at the lowest rate of the files ({of})"
        corpus = replace(corpus, notes=(*corpus.notes, told))
    return replace(corpus, sample_rate=usable)
