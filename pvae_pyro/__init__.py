"""Partitioned variational autoencoders (Hsu & Glass 2018, arXiv:1805.11264) on Pyro."""

__version__ = "0.1.0"
