"""What becomes of examples that are given the style of another example."""

import numpy as np
import torch
from torch import Tensor, nn

from pvae_pyro.batch import Observation
from pvae_pyro.evaluate.chance import agreement
from pvae_pyro.evaluate.judges import class_judges, judged
from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun, some_of, tensor_locs
from pvae_pyro.generation import decode, infer, shared_of, style_of


def measure(
    run: TrainedRun, settings: MeasureSettings, seed: int = 0
) -> dict[str, dict[str, float | int | None]]:
    """Give each example a the style of another example b of its modality, of any class.

    Of at most `settings.limit` test examples of each modality; seed: of their choice.

    Returns modality -> figure -> value, for modalities with a style latent:
        content_class: fraction judged to be of a's class.
        content_class_other, style_class_other: among pairs of different classes, the fractions
            judged to be of a's and of b's class; None if there is no such pair.
        style_follows: fraction whose style, inferred again from the result, is nearer (Euclidean)
            to b's than to a's.
        num_examples, num_other: the number of pairs, and of those of different classes.
    and for each fraction its chance level, with _chance at the end of the name (`agreement`).
    Without labels, style_follows is the only one.
    """
    device = run.device
    labelled = all(examples.labelled for examples in run.test.values())
    judges = class_judges(run, settings) if labelled else {}
    result: dict[str, dict[str, float | int | None]] = {}
    for name, guide in run.unimodal.items():
        some = some_of(run.test[name], settings.limit, seed)
        latents = tensor_locs(guide, name, some, device)
        own = style_of(latents, name)
        if not own or len(some) < 2:
            continue
        # The examples are in random order, so b is the next one.
        given = {site: value.roll(-1, 0) for site, value in own.items()}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            generated = decode(run.model, shared_of(latents) | given, [name])[name]
        again = style_of(_inferred(guide, name, generated), name)
        nearer = _distance(again, given) < _distance(again, own)
        figures = _of_classes(judges[name], generated, some.labels, device) if labelled else {}
        figures |= {"style_follows": nearer.float().mean().item(), "style_follows_chance": 0.5}
        result[name] = figures | {"num_examples": len(some)}
    return result


def _of_classes(
    judge: nn.Module, generated: Observation, content: np.ndarray, device: torch.device | str
) -> dict[str, float | int | None]:
    """The figures of the classes ``[B]``; the style's are those of the next example."""
    style = np.roll(content, -1)
    found = judged(judge, generated, device)
    other = content != style
    figures: dict[str, float | int | None] = {"num_other": int(other.sum())}
    for figure, which, classes in (
        ("content_class", slice(None), content),
        ("content_class_other", other, content),
        ("style_class_other", other, style),
    ):
        figures[figure], figures[f"{figure}_chance"] = agreement(found[which], classes[which])
    return figures


def _inferred(
    guide: nn.Module, name: str, generated: Observation, chunk: int = 500
) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(generated.value), chunk):
        for site, loc in infer(guide, {name: generated.part(start, start + chunk)}).items():
            parts.setdefault(site, []).append(loc)
    return {site: torch.cat(values) for site, values in parts.items()}


def _distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> Tensor:
    """Euclidean, over all dimensions of all sites, ``[B]``."""
    return torch.cat([a[site] - b[site] for site in a], -1).norm(dim=-1)
