"""Train a PVAE on spoken and written digits, and score its latents as the paper does.

    python experiments/run_svi.py --dataset tidigit                  # a stand-in if it is not there
    PVAE_DATA=/my/data python experiments/run_svi.py --dataset fsdd  # real recordings
    python experiments/run_svi.py --resume runs/fsdd-quick-…         # after Ctrl-C
    torchrun --nproc-per-node 2 experiments/run_svi.py --dataset fsdd  # one process a GPU, or core

The run folder holds config.json (the whole configuration), metrics.jsonl (a line an epoch: every
term of the objective, in nats per example), checkpoint.safetensors (the latest checkpoint),
TensorBoard events, run.log, results.json and report.html. Ctrl-C and SIGTERM save, and exit with
code 130 (under torchrun with 1); errors exit with 1, wrong usage with 2. docs/trust.md says what
is promised of a run that is stopped or killed.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from typing import Any

from pvae_pyro.experiments.support.arguments import place
from pvae_pyro.experiments.support.command import entry
from pvae_pyro.experiments.support.command_line import add_options, validated
from pvae_pyro.experiments.support.config import Options
from pvae_pyro.experiments.support.options import OPTIONS


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="%(prog)s [options]",
    )
    main = parser.add_argument_group("main options")
    add = main.add_argument
    add("--data", type=place, metavar="DIR", help="the corpora; else $PVAE_DATA, else ./data")
    add("--out", type=place, metavar="DIR", help="run folder; else a new one in runs/")
    add(
        "--resume",
        type=place,
        metavar="DIR",
        help="resume the run in DIR with its own configuration. --epochs, --device, "
        "--checkpoint-seconds and --skip-bad-batches may change, and the paths of data that have "
        "moved",
    )
    add_options(parser, OPTIONS, main)
    add(
        "--no-report",
        dest="report",
        action="store_false",
        help="do not make report.html at the end (figures and sound, which take a minute or two)",
    )
    return parser


def options_of(
    parser: argparse.ArgumentParser, argv: list[str] | None
) -> tuple[Options, dict[str, Any]]:
    """The options of the run, and those of `training_run.train`; exits on wrong usage."""
    given = vars(parser.parse_args(argv))
    of_command = {name: given.pop(name) for name in ("data", "out", "resume", "report")}
    asked = validated(parser, Options, given)
    if asked.epochs and asked.steps:
        parser.error("give --epochs or --steps, not both")
    if of_command["resume"] and of_command["out"]:
        parser.error("--resume DIR and --out: give one folder")
    return asked, of_command


@entry()
def main(argv: list[str] | None = None) -> int:
    asked, of_command = options_of(make_parser(), argv)
    # Not above: importing torch takes seconds, which --help and a wrong option need not wait for.
    from pvae_pyro.experiments.support.training_run import train

    return train(asked, **of_command)


if __name__ == "__main__":
    sys.exit(main())
