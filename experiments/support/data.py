"""The data of a configuration."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pvae_pyro.data.audio.voice_activity import VoiceActivity
from pvae_pyro.data.cache import data_root
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.joining import join
from pvae_pyro.data.loading import image_column, speech_column
from pvae_pyro.data.loading_pairs import load_pairs
from pvae_pyro.data.paired import PairedData
from pvae_pyro.errors import shown
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.command_line import add_option, flag
from pvae_pyro.experiments.support.config import PLACES, Config, Options
from pvae_pyro.experiments.support.options import MANIFEST, PAIRS, Corpora, VoiceActivityOptions
from pvae_pyro.models.modalities import own_modality

# Options of single corpora of speech; a corpus's reader refuses the options of others.
OF_SPEECH = tuple(name for name in Corpora.model_fields if name != "image_root")


def load_columns(config: Config, root: Path) -> dict[str, PairedData]:
    """The data of each modality, in the configuration's order.

    Raises CorpusError, and ValueError for a modality that is unknown or has no data.
    """
    columns: dict[str, PairedData] = {}
    classes = None if config.classes is None else list(config.classes)
    datasets = {"speech": config.dataset, **config.second_speeches}
    for name in config.names:
        if name in datasets:
            own: dict[str, Any] = {} if name == "speech" else {"options": {}}
            arguments = {**speech_arguments(config), **own}
            columns[name] = speech_column(datasets[name], root, **arguments)
            continue  # it has been limited before its features were computed
        if name == "image":
            column = image_column(
                config.image_dataset,
                root,
                image_options(config),
                strict=config.strict,
                classes=None if columns else classes,  # join leaves out those of no other
            )
        else:
            find = own_modality(name).column
            if find is None:
                raise ValueError(f"modality {name!r} has no column of data")
            first = next(iter(columns.values()), None)
            column = find(root, first.classes if first else tuple(classes or ()))
            if not columns and classes:
                column = column.only(sorted(set(classes)))
        if not columns and config.limit:
            column = column.limited(config.limit)
        columns[name] = column
    return columns


def load_known_pairs(
    config: Options, modalities: Sequence[str] | None, workers: int | None = None
) -> PairedData:
    """The data of a file of pairs, without what is held out.

    Raises CorpusError, and RunError for an option of another corpus.
    """
    arguments = speech_arguments(config)
    options = {n: value for n, value in arguments.pop("options").items() if value is not None}
    root = options.pop("manifest_root", None)
    del arguments["require_corpus"]
    if others := [flag(name) for name in options if name not in ("sample_rate", "channel")]:
        raise RunError(f"{', '.join(others)}: not an option of {PAIRS}FILE.csv")
    pictures = {n: getattr(config, n) for n in ("image_size", "image_colour")}
    options |= {name: value for name, value in pictures.items() if value is not None}
    file = config.dataset.removeprefix(PAIRS)
    return load_pairs(file, root, modalities, **options, **arguments, workers=workers)


def speech_arguments(config: Options) -> dict[str, Any]:
    """Arguments of `open_speech`, but for the dataset and the data folder."""
    vad = {name.removeprefix("vad_"): name for name in VoiceActivityOptions.model_fields}
    del vad["trim"]
    return {
        "options": {name: _as_list(getattr(config, name)) for name in OF_SPEECH},
        "trim": True if config.trim is None and config.has_vad_options else config.trim,
        "vad": VoiceActivity(**{short: getattr(config, name) for short, name in vad.items()}),
        "shortest": config.min_seconds,
        "longest": config.max_seconds,
        "classes": _as_list(config.classes),
        "limit": config.limit,
        "require_corpus": config.require_corpus,
        "strict": config.strict,
    }


def image_options(config: Options) -> dict[str, Any]:
    """The options of `image_corpus`."""
    return {name: getattr(config, name) for name in ("image_root", "image_size", "image_colour")}


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def load_data(config: Config, root: Path) -> PairedData:
    """The paired data of a configuration.

    Raises CorpusError, and RunError for a modality that is unknown or has no data.
    """
    try:
        data = _loaded(config, root)
    except ValueError as error:
        raise RunError(str(error)) from error
    except CorpusError as error:
        if config.data_digest is None:
            raise
        raise CorpusError(
            f"{error}. If the data of this run have moved, say where they are now: --data, "
            f"{', '.join(map(flag, PLACES))}"
        ) from error
    return data.hold_out(config.hold_out) if config.hold_out else data


def _loaded(config: Config, root: Path) -> PairedData:
    if config.has_known_pairs:
        return load_known_pairs(config, config.names)
    return join(load_columns(config, root), require_corpus=config.require_corpus)


def check_data(config: Config, data: PairedData, folder: str | Path) -> Config:
    """Record the data's digest in the configuration, or compare it with the recorded one.

    Raises RunError if the run was begun on other data.
    """
    found = {"data_digest": data.digest(), "corpus": data.corpus, "stand_in": data.stand_in}
    # The name of a manifest may have changed since, so it is compared only without a digest.
    compared = ("corpus", "stand_in") if config.data_digest is None else ("data_digest",)
    if any(getattr(config, name) not in (None, found[name]) for name in compared):
        before = ", ".join(f"{name} {getattr(config, name)}" for name in found)
        now = ", ".join(f"{name} {value}" for name, value in found.items())
        raise RunError(
            f"{folder} was begun on other data: {before}; now {now}. Have files, a manifest, or "
            "$PVAE_DATA (--data) changed? On another processor features differ in their last "
            "digits: copy the folder $PVAE_CACHE from the first machine, which holds them"
        )
    return config.but(**found)


def load_run_data(
    config: Config,
    folder: str | Path,
    root: Path | None = None,
    moved: Mapping[str, Any] | None = None,
) -> PairedData:
    """The data that a run was trained and scored on.

    root: as --data. moved: fields of the configuration that say where the data lie now.

    Raises RunError if the data have changed, CorpusError if they are not found.
    """
    data = load_data(config.but(**(moved or {})), root or data_root())
    check_data(config, data, folder)
    return data


def normalisation_tensors(data: PairedData) -> dict[str, Tensor]:
    """The normalisation of each modality, for a checkpoint: generate.py has no corpus."""
    return {
        f"{name}.{field}": torch.as_tensor(getattr(examples.normalisation, field))
        for name, examples in data.train.items()
        for field in ("loc", "scale")
    }


def longest(data: PairedData) -> int | None:
    """Frames of the longest training example of speech: nothing longer is ever generated."""
    lengths = [data.train[name].lengths for name in data.log_mels]
    return max((int(of.max()) for of in lengths if of is not None), default=None)


def image_shape(data: PairedData) -> tuple[int, ...] | None:
    """Channels, height and width of the images; None without images."""
    return data.train["image"].values.shape[1:] if "image" in data.train else None


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the data of a run lie now; `places_of` reads them."""
    group = parser.add_argument_group(
        "data that have moved since the run", "They must be the same data."
    )
    for name in PLACES:
        add_option(group, name, Options.model_fields[name], help="as for run_svi.py")


def places_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_places` that were given. Raises RunError for an invalid value."""
    given = {name: value for name, value in vars(arguments).items() if name in PLACES}
    try:
        options = Options(**given)
    except ValueError as error:
        raise RunError(str(error)) from error
    return {name: getattr(options, name) for name in given}


def file_name(dataset: str) -> str:
    """A dataset's name as part of a file name: of a manifest, the manifest's own name."""
    return shown(Path(dataset.removeprefix(MANIFEST).removeprefix(PAIRS)).stem)
