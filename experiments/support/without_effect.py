"""Options that were given and say nothing to the run that they were given for."""

from collections.abc import Collection

from pvae_pyro.experiments.support.command_line import flag
from pvae_pyro.experiments.support.config import Config, Corpora

_OF_PVAE = ("beta", "margin", "length_scale", "gamma", "delta")
_OF_SPEECH = ("speech_scale", "duration_scale", "num_cells", "speech_encoder")
_OF_IMAGES = ("image_scale", "image_likelihood")


def without_effect(given: Collection[str], config: Config) -> list[str]:
    """The flags of those of the fields `given` that have no effect on a run of `config`."""
    spoken = {"speech", *config.second_speeches}
    rules: list[tuple[bool, Collection[str]]] = [
        (config.model == "pvae", _OF_PVAE),
        (config.only_modality is None, ("alpha", "paired", "paired_share", "pairs")),
        (config.paired < 1, ("paired_share",)),
        (config.prior in ("mixture", "vamp"), ("num_components",)),
        (config.image_likelihood != "bernoulli", ("image_scale",)),
        (not spoken.isdisjoint(config.modelled), _OF_SPEECH),
        ("image" in config.modelled, _OF_IMAGES),
        ("speech" in config.names, ("dataset", *(set(Corpora.model_fields) - {"image_root"}))),
        ("image" in config.names, ("image_dataset", "image_root")),
    ]
    unused = {name for heeded, names in rules if not heeded for name in names}
    return [flag(name) for name in given if name in unused]
