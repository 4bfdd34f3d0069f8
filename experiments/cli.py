"""The console command `pvae`. Each subcommand is a command of this folder.

pvae train --dataset fsdd          # the same as python experiments/run_svi.py --dataset fsdd
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from importlib import import_module

from pvae_pyro.experiments.support.command import entry

COMMANDS = {  # name -> module, description
    "train": ("run_svi", "train a PVAE, or resume a training, and score its latents"),
    "prepare": ("prepare", "read a corpus, compute its features and report what was left out"),
    "align": ("align", "find the word boundaries of a corpus that has none"),
    "evaluate": ("evaluate", "measure what a finished run has learnt"),
    "figures": ("figures", "draw the figures of a finished run"),
    "report": ("report", "write a page about a finished run, with pictures and sound"),
    "criticise": ("criticise", "compare data that a run generates with real data"),
    "generate": ("generate", "translate, restyle or sample sounds and pictures from a run"),
    "study": ("study", "train runs that differ in one option, and compare them in a table"),
}


@entry()
def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print("usage: pvae COMMAND [options]\n\ncommands (each has --help):")
        for name, (_, description) in COMMANDS.items():
            print(f"  {name:10} {description}")
        return 0 if words else 2
    command, *rest = words
    if command not in COMMANDS:
        print(f"pvae: there is no command {command!r}: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    sys.argv[0] = f"pvae {command}"  # as usage and errors call it
    return import_module(f"pvae_pyro.experiments.{COMMANDS[command][0]}").main(rest)


if __name__ == "__main__":
    sys.exit(main())
