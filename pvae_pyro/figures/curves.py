"""Training curves: the objective's terms against the gradient step."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pydantic import FiniteFloat, TypeAdapter

from pvae_pyro.figures.style import RC, new_figure
from pvae_pyro.io.files import whole_lines

# Each panel's title, its unit, and what the names of its terms start with (up to a slash).
PANELS = (
    ("objective", "nats per example", ("objective", "elbo")),
    ("log p(x | z) minus its first value", "nats per example", ("log_prob",)),
    ("KL(q ‖ p) of each latent", "nats per example", ("kl",)),
    ("coherence", "nats per example", ("coherence",)),
    ("contrastive", "contrast per example", ("contrastive",)),
    ("independence", "per example", ("independence",)),
    ("restyling", "nats per example", ("restyling",)),
    ("agreement", "nats per example", ("agreement",)),
)

_RECORD = TypeAdapter(dict[str, int | FiniteFloat])


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a run's ``metrics.jsonl``, one for each epoch (`pvae_pyro.training.loop.fit`).

    An unfinished last line is left out. Raises ValueError, which names the file, if a line is
    damaged or no epoch is finished; OSError if the file cannot be read.
    """
    records: list[dict[str, Any]] = []
    try:
        for line in whole_lines(path):
            records.append(_RECORD.validate_json(line, strict=True))
    except ValueError as error:
        raise ValueError(f"{path} is damaged in line {len(records) + 1}: {error}") from error
    if not records:
        raise ValueError(f"{path}: no epoch is finished yet")
    return records


def curves_figure(records: Sequence[dict[str, Any]]) -> Figure:
    """A panel for each kind of term in the records: its mean over the epoch against the step.

    Terms are unweighted. Log likelihoods of different modalities are hundreds of nats apart, so
    each is drawn minus its first value, on an axis that is logarithmic beyond 10 nats; the legend
    has its last value.

    Raises ValueError if a record lacks the step or a term of the first record.
    """
    if lacking := [r for r in records if not r.keys() >= {"step", *records[0]}]:
        raise ValueError(f"a record lacks the step, or a term of the first record: {lacking[0]}")
    steps = [record["step"] for record in records]
    panels = [
        (title, unit, terms)
        for title, unit, kinds in PANELS
        if (terms := [name for name in records[0] if name.split("/")[0] in kinds])
    ]
    columns = min(len(panels), 3)
    rows = -(-len(panels) // 3)
    figure = new_figure(2.5 * columns, 2.4 * rows)
    with matplotlib.rc_context(RC):
        for n, (title, unit, terms) in enumerate(panels):
            axes = figure.add_subplot(rows, columns, 1 + n)
            axes.set(title=title, xlabel="gradient step", ylabel=unit)
            for term in terms:
                kind, _, part = term.partition("/")
                values = np.array([record[term] for record in records])
                label = part.replace("/", ", ") or ("sum" if len(terms) > 2 else kind)
                if kind == "log_prob":
                    label = f"{part} ({values[-1]:.1f})".replace("-", "\N{MINUS SIGN}")
                    values = values - values[0]
                    axes.set_yscale("symlog", linthresh=10)
                axes.plot(
                    steps, values, ".-" if len(steps) == 1 else "-", label=label,
                    color="black" if term == "objective" or label == "sum" else None,
                    linewidth=1 if part else 1.5,
                )  # fmt: skip
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.legend(  # below the panel, where it covers no curve
                loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=2, frameon=False, fontsize=6,
                columnspacing=1, handlelength=1.5,
            )  # fmt: skip
    return figure
