"""Counts and warnings about a corpus."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pvae_pyro.data.corpus import SPLITS, ImageCorpus
from pvae_pyro.data.recording import Recording, SpeechCorpus
from pvae_pyro.data.spelling import look_alike_lines
from pvae_pyro.errors import shown

_MOST = 10
# In dB. Recordings of FSDD differ from their median by 26 at most, of AN4 by 12.
_FAR = 30.0
_FAINT = -60.0  # of full scale
_SILENT = 0.5  # share of frames


def summarise_speech(corpus: SpeechCorpus, statistics: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Counts per split, class and speaker, durations in seconds, rates in Hz, what was left out.

    corpus, statistics: as `compute_features` returns them.

    ``warnings`` says in one sentence each what would spoil a comparison: speakers in both splits,
    classes in only one, names that look alike, an empty split, recordings whose level is far from
    that of the others or that are mostly silent.
    """
    recordings = corpus.recordings
    splits: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        index = np.flatnonzero([recording.split == split for recording in recordings])
        splits[split] = {
            "recordings": len(index),
            "classes": _counts(recordings[n].label for n in index),
            "speakers": _counts(recordings[n].speaker for n in index),
            "seconds": _spread(statistics["seconds"][index]),
        }
    overlap = sorted((set(splits["train"]["speakers"]) & set(splits["test"]["speakers"])) - {""})
    warnings = []
    if overlap:
        number = len(splits["test"]["speakers"])
        warnings = [f"{len(overlap)} of the {number} test speakers are in the training split too"]
    summary = _summary(corpus, splits, warnings)
    rates = _counts(statistics["rates"].tolist())
    notes = [corpus.completeness(recordings)] if corpus.completeness else []
    return {
        **summary,
        "warnings": [*summary["warnings"], *_level_warnings(recordings, statistics)],
        "feature_sample_rate": corpus.sample_rate,
        "recorded_rates": {str(rate): number for rate, number in rates.items()},
        "speakers_in_both": overlap,
        "notes": [*corpus.notes, *notes],
    }


def summarise_images(corpus: ImageCorpus) -> dict[str, Any]:
    """Counts per split and class, and what was left out."""
    splits: dict[str, dict[str, Any]] = {
        split: {
            "images": len(corpus.labels[split]),
            "classes": _counts(corpus.labels[split].tolist()),
        }
        for split in SPLITS
    }
    return _summary(corpus, splits, [])


def _summary(
    corpus: SpeechCorpus | ImageCorpus, splits: dict[str, dict[str, Any]], warnings: list[str]
) -> dict[str, Any]:
    train, test = (set(splits[split]["classes"]) for split in SPLITS)
    for here, there, classes in (
        ("training", "test", train - test),
        ("test", "training", test - train),
    ):
        if classes and train and test:
            names = ", ".join(map(shown, sorted(classes)))
            warnings.append(f"in the {here} split but not in {there}: {names}")
    for what in ("classes", "speakers"):
        counts = sum((Counter(splits[split].get(what, {})) for split in SPLITS), Counter())
        warnings += look_alike_lines(what, counts)
    if len(train | test) == 1 and train | test != {""}:  # without labels, all are ""
        warnings.append("there is only one class: every score will be perfect, and mean nothing")
    warnings += [f"the {split} split is empty" for split in SPLITS if not splits[split]["classes"]]
    return {
        "corpus": corpus.name,
        "stand_in": corpus.stand_in,
        "splits": splits,
        "notes": list(corpus.notes),
        "warnings": warnings,
        "left_out": dict(Counter(problem.kind for problem in corpus.problems).most_common()),
        "problems": [vars(problem) for problem in corpus.problems],
    }


def _level_warnings(
    recordings: Sequence[Recording], statistics: Mapping[str, np.ndarray]
) -> list[str]:
    levels = statistics["levels"]
    usual = float(np.median(levels))
    far = np.flatnonzero(np.abs(levels - usual) > _FAR).tolist()
    quiet = np.flatnonzero(statistics["silence"] > _SILENT).tolist()
    warnings = []
    if usual < _FAINT:
        warnings.append(
            f"the recordings are faint: half of them are below {usual:.0f} dB of full scale, where "
            "features lie at their floor"
        )
    if far:
        names = _first([f"{recordings[n].name} at {levels[n]:.0f} dB" for n in far])
        warnings.append(
            f"{len(far)} recordings are more than {_FAR:.0f} dB from the usual level, which is "
            f"{usual:.0f} dB of full scale: {names}"
        )
    if quiet:
        names = _first([recordings[n].name for n in quiet])
        warnings.append(
            f"{len(quiet)} recordings are digital silence for more than half of their time "
            f"(--trim cuts it off): {names}"
        )
    return warnings


def _first(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:_MOST])) + ", …" * (len(names) > _MOST)


def problem_lines(problems: Sequence[tuple[str, str]], more_in: str) -> list[str]:
    """What was left out, for people: how many of each kind, and the first few reasons.

    problems: kind and reason of each. more_in: where the others are to be found.
    """
    if not problems:
        return ["left out: nothing"]
    kinds = Counter(kind for kind, _ in problems).most_common()
    counts = ", ".join(f"{number} {kind}" for kind, number in kinds)
    rest = len(problems) - _MOST
    return [
        f"left out: {len(problems)} ({counts})",
        *(f"  {shown(reason)}" for _, reason in problems[:_MOST]),
        *([f"  … and {rest} more, in {more_in}"] if rest > 0 else []),
    ]


def _counts(values: Any) -> dict[Any, int]:
    return dict(sorted(Counter(values).items()))


def _spread(seconds: np.ndarray) -> dict[str, float] | None:
    if not len(seconds):
        return None
    return {
        "sum": round(float(seconds.sum()), 2),
        "mean": round(float(seconds.mean()), 4),
        "sd": round(float(seconds.std()), 4),
        "min": round(float(seconds.min()), 4),
        "median": round(float(np.median(seconds)), 4),
        "max": round(float(seconds.max()), 4),
    }
