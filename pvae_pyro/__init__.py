"""Partitioned variational autoencoders (Hsu & Glass 2018, arXiv:1805.11264) on Pyro.

    from pvae_pyro import PVAE, PartitionedGuide, PartitionedELBO, SVI, fit, load_run

Each name below is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pvae_pyro.batch import Batch as Batch
    from pvae_pyro.batch import Observation as Observation
    from pvae_pyro.data.joining import join as join
    from pvae_pyro.data.loader import PairedLoader as PairedLoader
    from pvae_pyro.data.loading import load_paired as load_paired
    from pvae_pyro.data.loading_pairs import load_pairs as load_pairs
    from pvae_pyro.data.paired import column_of as column_of
    from pvae_pyro.data.paired_arrays import paired_data as paired_data
    from pvae_pyro.elbo import PartitionedELBO as PartitionedELBO
    from pvae_pyro.modality import Modality as Modality
    from pvae_pyro.svi import SVI as SVI
    from pvae_pyro.training.loop import fit as fit

__version__ = "0.1.0"

# The module of each name. Models, guides and runs are not imported above: layers stay apart.
_MODULES = {
    "Batch": "batch",
    "JMVAE": "models",
    "JMVAEGuide": "guides",
    "Modality": "modality",
    "Observation": "batch",
    "PVAE": "models",
    "PairedLoader": "data.loader",
    "PartitionedELBO": "elbo",
    "PartitionedGuide": "guides",
    "SVI": "svi",
    "column_of": "data.paired",
    "digit_modalities": "models",
    "fit": "training.loop",
    "infer": "generation",
    "join": "data.joining",
    "load_paired": "data.loading",
    "load_pairs": "data.loading_pairs",
    "load_run": "experiments.support.saved_run",
    "paired_data": "data.paired_arrays",
    "restyle": "generation",
    "sample": "generation",
    "translate": "generation",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
