"""The console command `pvae`: each subcommand is a command of this folder.

pvae train --dataset fsdd          # as python experiments/run_svi.py --dataset fsdd
"""

import sys
from importlib import import_module

from pvae_pyro.experiments.support.command import entry

COMMANDS = {
    "train": "run_svi",
    "prepare": "prepare",
    "align": "align",
    "evaluate": "evaluate",
    "figures": "figures",
    "report": "report",
    "criticise": "criticise",
    "generate": "generate",
    "study": "study",
}


@entry()
def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: pvae COMMAND [options]\n\nCOMMAND: {', '.join(COMMANDS)}; each has --help")
        return 0 if words else 2
    command, *rest = words
    if command not in COMMANDS:
        print(f"pvae: there is no command {command!r}: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    sys.argv[0] = f"pvae {command}"  # as usage and errors call it
    module = import_module(f"pvae_pyro.experiments.{COMMANDS[command]}")
    return module.main(rest)
