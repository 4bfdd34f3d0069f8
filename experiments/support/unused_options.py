"""Options that were given although they have no effect on the run."""

from collections.abc import Collection

from pvae_pyro.experiments.support.command_line import flag
from pvae_pyro.experiments.support.config import Config
from pvae_pyro.experiments.support.options import Corpora

_OF_PVAE = ("contrast", "beta", "margin", "length_scale", "gamma", "delta", "epsilon")
_OF_SPEECH = ("speech_scale", "duration_scale", "num_cells", "speech_encoder")
_OF_CORPORA = set(Corpora.model_fields)
_OF_IMAGES = ("image_scale", "image_likelihood")


def unused_options(given: Collection[str], config: Config) -> list[str]:
    """The flags of the fields among `given` that have no effect on a run of `config`."""
    speeches = {"speech", *config.second_speeches, *(config.sample_rates or ())}
    known_pairs = config.has_known_pairs
    rules: list[tuple[bool, Collection[str]]] = [
        (config.model == "pvae", _OF_PVAE),
        (config.only_modality is None, ("alpha", "paired", "paired_share", "pairs")),
        (config.contrast == "hinge", ("margin",)),
        (config.paired < 1, ("paired_share",)),
        (config.prior in ("mixture", "vamp"), ("num_components",)),
        (config.prior == "normal", ("fit_prior",)),
        (config.image_likelihood != "bernoulli", ("image_scale",)),
        (not speeches.isdisjoint(config.modelled), _OF_SPEECH),
        ("image" in config.modelled, _OF_IMAGES),
        ({*config.augment} <= {*speeches, "image"} & {*config.modelled}, ("augment",)),
        ("speech" in config.names or known_pairs, ("dataset", *(_OF_CORPORA - {"image_root"}))),
        ("image" in config.names and not known_pairs, ("image_dataset", "image_root")),
        ("image" in config.names, ("image_size", "image_colour")),
    ]
    unused = {name for has_effect, names in rules if not has_effect for name in names}
    return [flag(name) for name in given if name in unused]
