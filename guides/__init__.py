"""The Pyro guides: q of all modalities, and one q_m for each."""

from guides.multimodal import MultimodalGuide
from guides.partitioned import PartitionedGuide
from guides.unimodal import UnimodalGuide

__all__ = ["MultimodalGuide", "PartitionedGuide", "UnimodalGuide"]
