"""What a prepared corpus holds, counted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pvae_pyro.data.corpus import SPLITS, ImageCorpus
from pvae_pyro.data.recording import Recording, SpeechCorpus
from pvae_pyro.data.spelling import look_alike_lines
from pvae_pyro.errors import shown

_TOLD = 10
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
    kept = corpus.recordings
    splits: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        index = np.flatnonzero([recording.split == split for recording in kept])
        here = [kept[n] for n in index]
        splits[split] = {
            "recordings": len(here),
            "classes": _counted(recording.label for recording in here),
            "speakers": _counted(recording.speaker for recording in here),
            "seconds": _spread(statistics["seconds"][index]),
        }
    overlap = sorted(set(splits["train"]["speakers"]) & set(splits["test"]["speakers"]))
    return {
        "corpus": corpus.name,
        "stand_in": corpus.stand_in,
        "feature_sample_rate": corpus.sample_rate,
        "recorded_rates": {str(k): v for k, v in _counted(statistics["rates"].tolist()).items()},
        "splits": splits,
        "speakers_in_both": overlap,
        "notes": [*corpus.notes, *([corpus.completeness(kept)] if corpus.completeness else [])],
        "warnings": [*_warnings(splits, overlap), *_of_level(kept, statistics)],
        "left_out": dict(Counter(problem.kind for problem in corpus.problems).most_common()),
        "problems": [vars(problem) for problem in corpus.problems],
    }


def _of_level(kept: Sequence[Recording], statistics: Mapping[str, np.ndarray]) -> list[str]:
    levels = statistics["levels"]
    usual = float(np.median(levels))
    far = np.flatnonzero(np.abs(levels - usual) > _FAR).tolist()
    quiet = np.flatnonzero(statistics["silence"] > _SILENT).tolist()
    found = []
    if usual < _FAINT:
        found.append(
            f"the recordings are faint: half of them are below {usual:.0f} dB of full scale, where "
            "features lie at their floor"
        )
    if len(far):
        told = _named([f"{kept[n].name} at {levels[n]:.0f} dB" for n in far])
        found.append(
            f"{len(far)} recordings are more than {_FAR:.0f} dB from the usual level, which is "
            f"{usual:.0f} dB of full scale: {told}"
        )
    if len(quiet):
        told = _named([kept[n].name for n in quiet])
        found.append(
            f"{len(quiet)} recordings are digital silence for more than half of their time "
            f"(--trim cuts it off): {told}"
        )
    return found


def _named(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:_TOLD])) + ", …" * (len(names) > _TOLD)


def summarise_images(corpus: ImageCorpus) -> dict[str, Any]:
    """Counts per split and class, and what was left out."""
    splits: dict[str, dict[str, Any]] = {
        split: {
            "images": len(corpus.labels[split]),
            "classes": _counted(corpus.labels[split].tolist()),
        }
        for split in SPLITS
    }
    return {
        "corpus": corpus.name,
        "stand_in": corpus.stand_in,
        "splits": splits,
        "notes": list(corpus.notes),
        "warnings": _warnings(splits, []),
        "left_out": dict(Counter(problem.kind for problem in corpus.problems).most_common()),
        "problems": [vars(problem) for problem in corpus.problems],
    }


def problem_lines(problems: Sequence[tuple[str, str]], more_in: str) -> list[str]:
    """What was left out, for people: how many of each kind, and the first few reasons.

    problems: kind and reason of each. more_in: where the others are to be found.
    """
    if not problems:
        return ["left out: nothing"]
    kinds = Counter(kind for kind, _ in problems).most_common()
    counts = ", ".join(f"{number} {kind}" for kind, number in kinds)
    rest = len(problems) - _TOLD
    return [
        f"left out: {len(problems)} ({counts})",
        *(f"  {shown(reason)}" for _, reason in problems[:_TOLD]),
        *([f"  … and {rest} more, in {more_in}"] if rest > 0 else []),
    ]


def _counted(values: Any) -> dict[Any, int]:
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


def _warnings(splits: dict[str, dict[str, Any]], overlap: list[str]) -> list[str]:
    found = []
    if overlap:
        number = len(splits["test"]["speakers"])
        found.append(f"{len(overlap)} of the {number} test speakers are in the training split too")
    train, test = (set(splits[split]["classes"]) for split in SPLITS)
    for here, there, classes in (
        ("training", "test", train - test),
        ("test", "training", test - train),
    ):
        if classes and train and test:
            found.append(
                f"in the {here} split but not in {there}: {', '.join(map(shown, sorted(classes)))}"
            )
    for what in ("classes", "speakers"):
        counts = sum((Counter(splits[split].get(what, {})) for split in SPLITS), Counter())
        found += look_alike_lines(what, counts)
    if len(train | test) == 1:
        found.append("there is only one class: every score will be perfect, and mean nothing")
    for split, classes in zip(SPLITS, (train, test), strict=True):
        if not classes:
            found.append(f"the {split} split is empty")
    return found
