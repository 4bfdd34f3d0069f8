"""Command line options that say which data, shared by the commands that read a corpus."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pvae_pyro.data.audio.voice_activity import VoiceActivity
from pvae_pyro.data.column import Column
from pvae_pyro.data.corpora.digit_words import OH
from pvae_pyro.data.corpora.registry import DATASETS, MANIFEST, SPEECH
from pvae_pyro.data.corpora.spoken_words import DIGITS
from pvae_pyro.data.corpora.tidigits import SPEAKERS
from pvae_pyro.data.corpus import shown
from pvae_pyro.data.spelling import tidied
from pvae_pyro.data.spoken import LONGEST, SHORTEST, speech_column
from pvae_pyro.data.written import image_column
from pvae_pyro.experiments.support.arguments import MOST_EXAMPLES, number, place
from pvae_pyro.experiments.support.settings import PLACES
from pvae_pyro.models.modalities import BUILT_IN, OWN, SPOKEN, own_modality

# Of single corpora; each reader says which it takes, and the others refuse it.
OF_CORPUS = (
    *("folder", "alignments", "speakers", "oh", "pattern", "phone", "validation"),
    *("language", "words", "manifest_root", "sample_rate", "channel"),
)
# What of `VoiceActivity` can be changed here; its other parameters are the method's own.
OF_VAD = {
    "depth": "dB below the speech's level where it ends, in a quiet file",
    "margin": "dB above the noise's level where it ends, in a noisy one",
    "shortest": "seconds; a shorter sound is a click, not speech",
    "longest_gap": "seconds of silence within a word",
    "hangover": "seconds kept after the last frame of speech",
}
OF_IMAGES = ("image_root",)
_HOUR = 3600.0  # seconds: no longer file is read
# Options that only this modality heeds.
OF_MODALITY = {
    "speech": ("dataset", *OF_CORPUS),
    "image": ("image_dataset", *OF_IMAGES),
    "spanish": ("spanish_dataset",),
}


def add_corpus_options(parser: argparse.ArgumentParser) -> None:
    """Which speech, from where, and what is done with it before features are computed."""
    data = parser.add_argument_group("data").add_argument
    licensed = " and ".join(name for name, known in SPEECH.items() if known.stand_in)
    data(
        "--dataset",
        type=_dataset,
        default="tidigit",
        metavar="NAME",
        help=f"speech: {', '.join(DATASETS)}, or {MANIFEST}FILE.csv with the columns "
        f"path,label,speaker,split and perhaps start,end. {licensed} are licensed: where they "
        "are not found, a synthetic stand-in takes their place, and says so",
    )
    data("--data", type=place, metavar="DIR", help="the corpora; else $PVAE_DATA, else ./data")
    data("--require-corpus", action="store_true", help="fail rather than use a stand-in")
    data(
        "--strict",
        action="store_true",
        help="stop at the first file that cannot be used, instead of leaving it out and saying so",
    )
    data(
        "--classes",
        type=label_list,
        metavar="A,B",
        help="use these labels alone",
    )
    data(
        "--limit",
        type=number(int, above=0, most=MOST_EXAMPLES),
        metavar="N",
        help="at most N recordings of each class and partition, to try things out",
    )
    data(
        "--min-seconds",
        type=number(float, least=0.0, most=_HOUR),
        default=SHORTEST,
        metavar="S",
        help="a shorter recording is left out",
    )
    data(
        "--max-seconds",
        type=number(float, above=0.0, most=_HOUR),
        default=LONGEST,
        metavar="S",
        help="a longer recording is left out",
    )

    of = parser.add_argument_group("single corpora").add_argument
    path = {"type": _absolute, "metavar": "PATH"}
    of("--folder", **path, help="where tidigit or secuvoice lies, if not in the data folder")
    of("--alignments", **path, help="tidigit: CTM file or folder; else tidigits_ctm in the data")
    of("--speakers", choices=tuple(SPEAKERS), help="tidigit: (adults)")
    of("--oh", choices=OH, help='tidigit, an4: the word "oh" is 0, left out, or class o (zero)')
    of("--pattern", metavar="TEXT", help="secuvoice: file names, as {speaker}/{phone}/{digit}.wav")
    of("--phone", metavar="NAME", help="secuvoice: else the one of higher dynamic range")
    of("--validation", choices=("drop", "train"), help="speech_commands: its third list (drop)")
    of("--language", metavar="CODE", help=f"mswc: {', '.join(DIGITS)}, … (es)")
    of(
        "--words",
        type=label_list,
        metavar="A,B",
        help="mswc: words that are the classes; else the digits",
    )
    of("--manifest-root", **path, help="what a manifest's paths are in; else its own folder")
    of(
        "--sample-rate",
        type=number(int, least=4000, most=192000),
        metavar="HZ",
        help="manifest: of its features",
    )
    of(
        "--channel",
        type=number(int, least=1, most=1024),
        metavar="N",
        help="manifest: of files with several, from 1; else their mean",
    )

    vad = parser.add_argument_group("voice activity (silence at the ends)").add_argument
    vad(
        "--trim",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="cut silence off both ends; else only of secuvoice",
    )
    for name, told in OF_VAD.items():
        vad(
            f"--vad-{name.replace('_', '-')}",
            type=number(float, least=0.0, most=_HOUR),
            default=getattr(VoiceActivity, name),
            metavar="X",
            help=told,
        )


def add_image_options(parser: argparse.ArgumentParser) -> None:
    images = parser.add_argument_group("images").add_argument
    images(
        "--image-dataset",
        type=_dataset,
        default="mnist",
        metavar="NAME",
        help=f"mnist, or {MANIFEST}FILE.csv with the columns path,label,split",
    )
    images("--image-root", type=_absolute, metavar="PATH", help="as --manifest-root, of images")


def add_modality_options(parser: argparse.ArgumentParser) -> None:
    """Which modalities, and the data of those that other commands do not know."""
    add = parser.add_argument_group("modalities").add_argument
    add(
        "--modalities",
        type=_modalities,
        default="speech,image",
        metavar="A,B,…",
        help=f"of {', '.join([*BUILT_IN, *OWN])}; the first leads: its classes, an epoch is a pass "
        "over it, and of the others a random example of the class goes with each. Your own: "
        "docs/modalities.md",
    )
    add(
        "--spanish-dataset",
        type=_dataset,
        default="secuvoice",
        metavar="NAME",
        help="spanish, a second speech: as --dataset, read by the same options but for those of "
        "single corpora",
    )


def add_places(parser: argparse.ArgumentParser) -> None:
    """Where the data of a run lie now, if they have moved since; `places` has what was given."""
    moved = parser.add_argument_group(
        "data that have moved since the run", "They are read there, if they are the same."
    ).add_argument
    for name in PLACES:
        known = _dataset if name.endswith("dataset") else _absolute
        metavar = f"{MANIFEST}FILE" if name.endswith("dataset") else "PATH"
        moved(f"--{name.replace('_', '-')}", type=known, metavar=metavar, help="as of run_svi.py")


def places(options: argparse.Namespace) -> dict[str, str]:
    given = vars(options)
    return {name: given[name] for name in PLACES if given[name] is not None}


def may_move(name: str, before: str | None, now: str) -> bool:
    """Whether an option says where data lie: of datasets, manifests alone are known by a place."""
    if name.endswith("dataset"):
        return str(before).startswith(MANIFEST) and now.startswith(MANIFEST)
    return name in PLACES


def told_by(config: Mapping[str, Any]) -> list[str]:
    """The options that say where the data of a configuration lie."""
    heeded = {option for name in config["modalities"] for option in OF_MODALITY.get(name, ())}
    of = [name for name in PLACES if name in heeded and config[name] is not None]
    found = [f"--{name.replace('_', '-')}" for name in of if may_move(name, config[name], MANIFEST)]
    return [*found, "--data"]


def load_columns(config: Mapping[str, Any], root: Path) -> dict[str, Column]:
    """The data of each modality of a configuration, in its order.

    Raises CorpusError as the columns do; ValueError for a modality that is not known, or has no
    column.
    """
    columns: dict[str, Column] = {}
    given = {"strict": config["strict"], "classes": config["classes"]}
    for name in config["modalities"]:
        if name == "image":
            options = {option: config[option] for option in OF_IMAGES}
            asked = given if not columns else {**given, "classes": None}  # others are left out
            column = image_column(config["image_dataset"], root, options, **asked)
        elif name in BUILT_IN:
            own = {} if name == "speech" else {"options": {}}
            of = {"speech": "dataset", "spanish": "spanish_dataset"}[name]
            column = speech_column(config[of], root, **{**speech_arguments(config), **own})
        else:
            find = own_modality(name).column
            if find is None:
                raise ValueError(f"modality {name!r} has no column of data")
            first = next(iter(columns.values()), None)
            column = find(root, first.classes if first else tuple(config["classes"] or ()))
            if not columns and config["classes"]:
                column = column.chosen(config["classes"])
        # Of speech this was done before its features were computed.
        if not columns and config["limit"] and name not in SPOKEN:
            column = column.limited(config["limit"])
        columns[name] = column
    return columns


def speech_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `open_speech` that a configuration stands for, but for dataset and root."""
    # Who says how to trim wants it done.
    told_how = any(config[f"vad_{name}"] != getattr(VoiceActivity, name) for name in OF_VAD)
    return {
        "options": {name: config[name] for name in OF_CORPUS},
        "trim": True if config["trim"] is None and told_how else config["trim"],
        "vad": VoiceActivity(**{name: config[f"vad_{name}"] for name in OF_VAD}),
        "shortest": config["min_seconds"],
        "longest": config["max_seconds"],
        "classes": config["classes"],
        "limit": config["limit"],
        "require_corpus": config["require_corpus"],
        "strict": config["strict"],
    }


def check_corpus_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuse what no single option shows to be wrong."""
    if not arguments.min_seconds < arguments.max_seconds:
        parser.error("--min-seconds must be less than --max-seconds")
    if arguments.trim is False and speech_arguments({**vars(arguments), "trim": None})["trim"]:
        parser.error("--no-trim, and --vad-… that say how to trim")


def image_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "image_dataset": config["image_dataset"],
        "image_options": {name: config[name] for name in OF_IMAGES},
    }


def file_name(dataset: str) -> str:
    """A dataset's name as a part of a file's: the manifest's own name for a manifest."""
    return shown(Path(dataset.removeprefix(MANIFEST)).stem)


def _absolute(text: str) -> str:
    """As text, for config.json; absolute, because a run may be resumed from elsewhere."""
    return str(place(text).absolute())


def label_list(text: str) -> list[str]:
    return [tidied(word) for word in text.split(",") if tidied(word)]


label_list.of = list  # as of `number`'s converters


def _modalities(text: str) -> list[str]:
    names = label_list(text)
    if unknown := [name for name in names if name not in (*BUILT_IN, *OWN)]:
        raise argparse.ArgumentTypeError(
            f"no modality {', '.join(unknown)}: there are {', '.join([*BUILT_IN, *OWN])}, and "
            "those that you add to models/modalities.py"
        )
    if not names or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"each modality once, and one at least; got {text!r}")
    return names


_modalities.of = list


def _dataset(text: str) -> str:
    """A manifest's path made absolute."""
    if text.startswith(MANIFEST):
        return MANIFEST + _absolute(text.removeprefix(MANIFEST))
    return text
