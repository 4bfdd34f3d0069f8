"""Compare runs that differ in one thing, over several seeds.

    python experiments/study.py table1 --dataset fsdd --seeds 3
    python experiments/study.py missing --dataset fsdd --preset quick
    python experiments/study.py priors --dataset fsdd --preset quick --seeds 3 --steps 1600

objective   the default objective, each of its parts left out, and the paper's
table1      every model of the paper's Table 1, beside the paper's own figures
missing     0 to 75 % of each modality are missing; incomplete examples are used or dropped;
            examples are paired anew in each epoch or once
paired      1, 5, 25 or 100 % of the pairs are known; the other pairs are separated or dropped;
            examples are paired anew in each epoch or once
priors      the prior of z_sem is a standard normal, a Gaussian mixture, a VampPrior or a flow
likelihoods the likelihoods of pictures and of speech differ
encoders    the encoder of speech is an LSTM, convolutions or a transformer
unseen      training sees all digits, or never sees two of them
modalities  there are two modalities, or three

A study trains the runs that are missing, resumes interrupted ones, and uses finished ones as they
are if their options agree. It then evaluates each run (evaluate.py), except for table1, which needs
purities alone. All other options are those of run_svi.py and apply to all runs. Each run has a
folder in --out. After every run, STUDY.json and STUDY.md are written there; they cover all finished
runs in the folder. Exit codes are run_svi.py's.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Iterable
from typing import Any, get_args

from pvae_pyro.experiments.support.arguments import MOST_EXAMPLES, number, place
from pvae_pyro.experiments.support.command import entry
from pvae_pyro.experiments.support.command_line import add_options, flag, validated
from pvae_pyro.experiments.support.config import Options
from pvae_pyro.experiments.support.options import OPTIONS, VAE
from pvae_pyro.nn.choices import PriorName, SpeechEncoderName

TABLE1 = "table1"
# Each recording keeps one image, as in a real corpus. The paper pairs by class anew each epoch.
FIXED = {"pairs": "fixed"}
DROPPED = {"drop_incomplete": True}
GAPS: dict[str, dict[str, Any]] = {
    "0": {},
    **{str(f): {"missing": f} for f in (0.25, 0.5, 0.75)},
    **{f"{f} dropped": {"missing": f, **DROPPED} for f in (0.25, 0.5, 0.75)},
}
FEW_PAIRS: dict[str, dict[str, Any]] = {
    "1": {},
    **{str(f): {"paired": f} for f in (0.25, 0.05, 0.01)},
    **{f"{f} dropped": {"paired": f, **DROPPED} for f in (0.25, 0.05, 0.01)},
}
# Study -> row -> the options that differ. Table 1 also has a vae-NAME for every modality.
STUDIES: dict[str, dict[str, dict[str, Any]]] = {
    TABLE1: {
        "jmvae": {"model": "jmvae", "objective": "paper"},
        "pvae-b0": {"model": "pvae", "objective": "paper", "beta": 0.0},
        "pvae": {"model": "pvae", "objective": "paper"},
        "pvae-ours": {"model": "pvae", "objective": "ours"},
    },
    "objective": {
        "ours": {},
        "hinge": {"contrast": "hinge", "beta": 100.0, "length_scale": 3.0},  # as in version 1
        "no agreement": {"epsilon": 0.0},
        "no independence": {"gamma": 0.0},
        "no recovery": {"delta": 0.0},
        "paper": {"objective": "paper"},
    },
    "missing": GAPS | {f"{row} fixed": FIXED | options for row, options in GAPS.items()},
    "paired": FEW_PAIRS | {f"{row} fixed": FIXED | options for row, options in FEW_PAIRS.items()},
    "priors": {name: {"prior": name} for name in get_args(PriorName)},
    "likelihoods": {
        "normal": {},
        "laplace pictures": {"image_likelihood": "laplace"},
        "bernoulli pictures": {"image_likelihood": "bernoulli"},
        "learnt scales": {"learn_scale": True},
    },
    "encoders": {name: {"speech_encoder": name} for name in get_args(SpeechEncoderName)},
    "unseen": {"all": {}, "without 8, 9": {"unseen_classes": ("8", "9")}},
    "modalities": {
        "two": {"modalities": ("speech", "image")},
        "three": {
            "modalities": ("speech", "spanish", "image"),
            "modality": ("spanish=speech:secuvoice",),
        },
    },
}
# Study -> the measures of evaluate.py besides the coherence.
MEASURES = {
    "objective": ("probes", "style_swap", "styles", "fidelity", "kl", "num_classes"),
    "missing": ("subsets", "styles", "kl"),
    "paired": ("subsets", "styles", "kl"),
    "priors": ("prior_clusters", "log_likelihood"),
    "unseen": ("unseen",),
    "modalities": ("subsets", "retrieval"),
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="%(prog)s STUDY [options]",
    )
    add = parser.add_argument
    seeds = number(int, above=0, most=1000)
    limit = number(int, above=0, most=MOST_EXAMPLES)
    add("study", choices=STUDIES, metavar="STUDY", help=", ".join(STUDIES))
    add("--rows", nargs="+", metavar="ROW", help="rows of the study (all)")
    add("--seeds", type=seeds, default=1, metavar="N", help="use the seeds 0 to N - 1 (1)")
    out = "folder of the runs; else runs/STUDY-DATASET-PRESET"
    add("--out", type=place, metavar="DIR", help=out)
    add("--data", type=place, metavar="DIR", help="the corpora; else $PVAE_DATA, else ./data")
    add("--evaluate-limit", type=limit, default=500, metavar="N", help="evaluate.py --limit (500)")
    add_options(parser, OPTIONS, without=("seed",))
    return parser


@entry("the same command resumes")
def main(argv: list[str] | None = None) -> int:
    parser = make_parser()
    arguments = parser.parse_args(argv)
    given = {name: v for name, v in vars(arguments).items() if name in Options.model_fields}
    common = validated(parser, Options, given)
    rows = rows_of(arguments.study, common.names)
    if unknown := {*(arguments.rows or ())} - rows.keys():
        parser.error(f"--rows {' '.join(sorted(unknown))}: choose from {', '.join(rows)}")
    if fixed := given.keys() & {name for row in rows.values() for name in row}:
        words = ", ".join(map(flag, sorted(fixed)))
        parser.error(f"leave out {words}: the rows of {arguments.study} differ in it")
    # Imported here, because torch takes seconds, which --help and a wrong option need not wait for.
    from pvae_pyro.experiments.support.data import file_name
    from pvae_pyro.experiments.support.device import resolve_device
    from pvae_pyro.experiments.support.study_runs import Study

    # All runs must have the preset that `auto` stands for now.
    given["preset"] = common.resolved(resolve_device(common.device)).preset
    runs = {
        (row, seed): validated(parser, Options, {**given, **rows[row], "seed": seed})
        for seed in range(arguments.seeds)
        for row in rows
        if row in (arguments.rows or rows)
    }
    name = f"{arguments.study}-{file_name(common.dataset)}-{given['preset']}"
    study = Study(
        arguments.study,
        list(rows),
        arguments.out or Path("runs", name),
        data=arguments.data,
        measures=None if arguments.study == TABLE1 else MEASURES.get(arguments.study, ()),
        evaluate_limit=arguments.evaluate_limit,
    )
    return study.conduct(runs)


def rows_of(study: str, modalities: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Row -> the options that make a run the row of that name."""
    vaes = {f"{VAE}{name}": {"model": f"{VAE}{name}", "objective": "paper"} for name in modalities}
    return {**(vaes if study == TABLE1 else {}), **STUDIES[study]}


if __name__ == "__main__":
    sys.exit(main())
