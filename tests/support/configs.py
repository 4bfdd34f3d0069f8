"""Configurations of runs, from the words of a command line."""

import argparse

from pvae_pyro.experiments.support.command_line import add_options, validated
from pvae_pyro.experiments.support.config import Config, Options
from pvae_pyro.experiments.support.options import OPTIONS


def asked(*words: object) -> Options:
    """The options in the words of a command line."""
    parser = argparse.ArgumentParser()
    add_options(parser, OPTIONS)
    return validated(parser, Options, vars(parser.parse_args([*map(str, words)])))


def config(*words: object, **found: object) -> Config:
    """The configuration of a run on the CPU; `found`: fields that are no options."""
    return asked(*words).resolved("cpu").but(**found)
