"""Say this digit in that voice, write it in that hand: generation from a finished run.

    python experiments/generate.py translate runs/my-run --from my_seven.wav --style hand.png
    python experiments/generate.py translate runs/my-run --from five.png --draws 4
    python experiments/generate.py restyle runs/my-run --from my_seven.wav --style her_two.wav
    python experiments/generate.py reconstruct runs/my-run --from five.png
    python experiments/generate.py interpolate runs/my-run --from 3.png --to 8.png --in z_sem
    python experiments/generate.py sample runs/my-run --draws 8

A file may be a sound of any rate, with any channels, or a picture of any size, ink dark or light;
it is prepared as the training data were: silence at the ends of speech is cut off and a level far
from theirs changed; light and dark are as in training, a digit is scaled and centred as in MNIST. A
photograph must be cropped to the sheet. What was done is said. Look at sheet.png, whose first
panels are what the model saw; from-*.wav is that, too, made sound again. Where the run has
several modalities of sounds, say which one a file is of: --from spanish:dos.wav.
Without --style the style comes from the prior, in --draws draws.

The folder --out (RUN/generated/<command>-<time>) gets sheet.png, a PNG (8 times as large) or a WAV
for what went in and what came out (of what is neither picture nor sound, nothing more), and
generated.npz with values and with the latents inferred from what --from names (drawn, for
`sample`). What is generated is at its mean: nothing is random but what comes from the prior. Exit
codes: 0, 1 for an error, 2 for wrong usage.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import time
from collections.abc import Iterable
from itertools import chain, count
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pvae_pyro import generation as library
from pvae_pyro.batch import Observation
from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.audio.synthesis import level_matched, to_waveform, write_wav
from pvae_pyro.data.examples import Normalisation
from pvae_pyro.data.own_file import kind_of, observation, read_picture, read_sound
from pvae_pyro.data.pictures.framing import Framing
from pvae_pyro.errors import shown as printable
from pvae_pyro.experiments.support.arguments import Help, add_place, add_seed, number, place
from pvae_pyro.experiments.support.command import RunError, entry
from pvae_pyro.experiments.support.device import resolve_device
from pvae_pyro.experiments.support.saved_run import FRAMING, folder_within, load_run, read_config
from pvae_pyro.figures.observations import SequenceAxes, panels
from pvae_pyro.figures.style import save_figure
from pvae_pyro.figures.titled_panels import titled_panels_figure
from pvae_pyro.io.files import expanded
from pvae_pyro.io.provenance import environment, write_json
from pvae_pyro.training.checkpoint import CheckpointError, load_extra
from pvae_pyro.training.loop import CHECKPOINT

ENLARGED = 8  # times, of pictures
LEVEL = 0.1  # root mean square of a sound, full scale being 1


class Generator:
    """A run without its data: model, guide, and how its data were prepared."""

    def __init__(self, folder: Path, device: str):
        self.config = read_config(folder)
        self.device = resolve_device(device)
        self.model, self.guide = load_run(folder, self.device)
        self.normalisation = normalisations(folder / CHECKPOINT, self.names)
        self.framing = framing(folder / CHECKPOINT)
        self.told: list[str] = []  # of files, what was done to them
        rates = self.config.sample_rates or {}
        self.log_mels = {name: LogMel(rate) for name, rate in rates.items() if name in self.names}
        self.sounds = [*self.log_mels] or [name for name in self.names if name == "speech"]

    @property
    def names(self) -> list[str]:
        return list(self.config.modelled)

    def settings(self, name: str) -> LogMel:
        if name not in self.log_mels:
            raise RunError(
                "this run is of a version that did not keep the sample rate of its features: "
                "give it with --sample-rate"
            )
        return self.log_mels[name]

    def modality_of(self, path: Path) -> tuple[str, Path]:
        """What a file is of, by its ending or by ``NAME:`` before it; and the file."""
        told, _, rest = str(path).partition(":")
        if rest and told in self.names:
            name, path = told, expanded(rest)
            of = "sound" if name in self.sounds else "picture" if name == "image" else "neither"
            if kind_of(path) != of:
                raise RunError(f"{path} is a {kind_of(path)}, which is not read as {name}")
            return name, path
        kind = kind_of(path)
        fitting = self.sounds if kind == "sound" else [n for n in self.names if n == "image"]
        if not fitting:
            raise RunError(f"{path} is a {kind}, and the run is of {', '.join(self.names)}")
        if len(fitting) > 1:
            which = " or ".join(f"{name}:{path}" for name in fitting)
            raise RunError(f"{path}: of which modality? Say {which}")
        return fitting[0], path

    def read(self, path: Path, options: argparse.Namespace) -> tuple[str, Observation]:
        """A file as the model sees it, and of which modality it is."""
        name, path = self.modality_of(path)
        normalisation = self.normalisation[name]
        if name in self.sounds:
            hop = self.settings(name).hop
            sound = read_sound(
                path, self.settings(name), normalisation, trim=options.trim,
                keep_level=options.keep_level, channel=options.channel,
                longest=max(3.0, (self.config.max_frames or 0) * hop),
            )  # fmt: skip
            values = sound.log_mel
        else:
            like_mnist = self.config.image_dataset == "mnist"
            values, done = read_picture(path, like_mnist, self.framing)
            if done:
                self.told.append(f"{printable(path)}: {'; '.join(done)}")
        return name, observation(values, normalisation).to(self.device)


def normalisations(path: Path, names: Iterable[str]) -> dict[str, Normalisation]:
    """The data's normalisation that a checkpoint keeps, of each modality.

    Raises CheckpointError where there is none, or none that can be.
    """
    kept = load_extra(path)
    found = {}
    for name in names:
        loc, scale = (kept.get(f"{name}.{part}") for part in ("loc", "scale"))
        if (
            loc is None
            or scale is None
            or not loc.dtype == scale.dtype == torch.float32
            or not (loc.isfinite().all() and scale.isfinite().all() and (scale > 0).all())
            or loc.shape not in ((), scale.shape)
            or (name == "image" and scale.shape != ())
        ):
            raise CheckpointError(f"{path} has no normalisation of {name} that can be used")
        found[name] = Normalisation(loc.numpy(), scale.numpy())
    return found


def framing(path: Path) -> Framing | None:
    """That of the training pictures, which a checkpoint keeps; None of an earlier version's, or
    where they are not drawings on one ground.

    Raises CheckpointError for one that cannot be.
    """
    kept = load_extra(path).get(FRAMING)
    try:
        return None if kept is None else Framing.of(kept.tolist())
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error


Shown = list[tuple[str, str, Observation]]  # title, modality, what there is of it


def translate(run: Generator, options: argparse.Namespace) -> tuple[Shown, dict[str, Tensor]]:
    source, content = run.read(options.source, options)
    target = options.target
    style = None
    shown: Shown = [("from", source, content)]
    if options.style is not None:
        target, style = run.read(options.style, options)
        if options.target not in (None, target):
            raise RunError(f"--into {options.target}, and the style is {target}")
        shown.append(("style", target, style))
    others = [name for name in run.names if name != source]
    target = target or (others[0] if len(others) == 1 else None)
    if target not in run.names:
        raise RunError(f"into what? --into one of {', '.join(run.names)}, or give a --style")
    draws = 1 if style is not None else options.draws
    repeated = {source: _repeated(content, draws)}
    made = library.translate(run.model, run.guide, repeated, target, style)
    shown.append(("translated" if source != target else "restyled", target, made))
    return shown, library.infer_from(run.guide, {source: content})


def restyle(run: Generator, options: argparse.Namespace) -> tuple[Shown, dict[str, Tensor]]:
    if run.modality_of(options.source)[0] != run.modality_of(options.style)[0]:
        raise RunError("restyling is of two sounds or two pictures; see `translate`")
    return translate(run, options)


def reconstruct(run: Generator, options: argparse.Namespace) -> tuple[Shown, dict[str, Tensor]]:
    name, given = run.read(options.source, options)
    latents = library.infer_from(run.guide, {name: given})
    made = library.decode(run.model, latents, [name])[name]
    return [("from", name, given), ("reconstructed", name, made)], latents


def interpolate(run: Generator, options: argparse.Namespace) -> tuple[Shown, dict[str, Tensor]]:
    (name, start), (other, end) = (run.read(p, options) for p in (options.source, options.to))
    if name != other:
        raise RunError("interpolation is between two sounds or two pictures")
    ends = [library.infer_from(run.guide, {name: x}) for x in (start, end)]
    own = list(library.style_of(ends[0], name))
    sites = {"z_sem": list(library.shared_of(ends[0])), "z_style": own, "both": list(ends[0])}
    moved = sites[options.latent]
    if not moved:
        raise RunError(f"this model has no {options.latent}")
    made = library.interpolate(run.model, ends[0], ends[1], moved, [name], options.steps)[name]
    return [("from", name, start), ("to", name, end), ("between", name, made)], ends[0]


def sample(run: Generator, options: argparse.Namespace) -> tuple[Shown, dict[str, Tensor]]:
    made, shared = library.sample(run.model, options.draws, run.names)
    return [("sample", name, x) for name, x in made.items()], shared


def _repeated(x: Observation, times: int) -> Observation:
    lengths = None if x.lengths is None else x.lengths.repeat(times)
    return Observation(x.value.repeat(times, *[1] * (x.value.dim() - 1)), lengths)


COMMANDS = {f.__name__: f for f in (translate, restyle, reconstruct, interpolate, sample)}


def write(run: Generator, shown: Shown, latents: dict[str, Tensor], out: Path) -> list[Path]:
    """Everything into the folder `out`; returns the files."""
    files, drawn, titles, arrays = [], [], [], {}
    axes: list[SequenceAxes | None] = []
    for title, name, x in shown:
        of = panels(x, run.normalisation[name])
        for n, panel in enumerate(of):
            key = f"{title}-{name}" + f"-{n}" * (len(of) > 1)
            drawn.append(panel)
            titles.append(f"{title}: {name}" + f" {n}" * (len(of) > 1))
            arrays[key] = panel
            axes.append(None)
            if name in run.sounds:
                settings = run.settings(name)
                axes[-1] = SequenceAxes(settings.hop, settings.centre_frequencies)
                files.append(out / f"{key}.wav")
                samples = to_waveform(np.ascontiguousarray(panel.T), settings)
                write_wav(files[-1], level_matched(samples, LEVEL), settings.sample_rate)
            elif x.value.dim() == 4:
                files.append(out / f"{key}.png")
                pixels = np.clip(panel, 0, 255).round().astype(np.uint8)
                enlarged = np.kron(pixels, np.ones((ENLARGED, ENLARGED), np.uint8))
                Image.fromarray(enlarged).save(files[-1])
    files += save_figure(titled_panels_figure(drawn, titles, axes), out / "sheet", ["png"])
    arrays |= {f"inferred-{site}": z.cpu().numpy() for site, z in latents.items()}
    np.savez_compressed(out / "generated.npz", **arrays)  # type: ignore[arg-type]
    return [*files, out / "generated.npz"]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    commands = parser.add_subparsers(dest="command", required=True)
    rate, draws = number(int, least=4000, most=192_000), number(int, above=0, most=1000)
    for name in COMMANDS:
        add = commands.add_parser(name, allow_abbrev=False, formatter_class=Help).add_argument
        add("run", type=place, help="folder of a finished run")
        add("--out", type=place, metavar="DIR", help="else RUN/generated/<command>-<time>")
        add_place(add, data=False)
        add_seed(add, "what is drawn")
        add("--sample-rate", type=rate, metavar="HZ", help="of a run that did not keep its own")
        if name != "sample":
            add("--from", dest="source", type=place, required=True, metavar="FILE")
            cut = "cut off what is not speech at the ends; else where that is over 0.25 s"
            add("--trim", action=argparse.BooleanOptionalAction, help=cut)
            add("--keep-level", action="store_true", help="leave speech as loud as it is")
            which = number(int, least=1, most=1024)
            add("--channel", type=which, metavar="N", help="of speech, from 1; else their mean")
        if name in ("translate", "restyle"):
            needed = name == "restyle"
            add("--style", type=place, required=needed, metavar="FILE", help="whose style to take")
        if name == "translate":
            add("--into", dest="target", metavar="MODALITY", help="where no style says it")
        if name in ("translate", "sample"):
            add("--draws", type=draws, default=4, metavar="N", help="from the prior (4)")
        if name == "interpolate":
            add("--to", type=place, required=True, metavar="FILE")
            add("--in", dest="latent", choices=("z_sem", "z_style", "both"), default="z_sem")
            add("--steps", type=number(int, least=2, most=1000), default=8, metavar="N", help="(8)")
    commands.choices["restyle"].set_defaults(target=None, draws=1)
    return parser


def new_folder(parent: Path, command: str) -> Path:
    """A folder that is not there yet, called after the command and the time."""
    name = f"{command}-{time.strftime('%Y%m%d-%H%M%S')}"
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(parent / name for name in names if not (parent / name).exists())


@entry("", ValueError)
def main(argv: list[str] | None = None) -> int:
    options = make_parser().parse_args(argv)
    run = Generator(options.run, options.device)
    if options.sample_rate:
        for name in run.sounds:
            known = run.log_mels.setdefault(name, LogMel(options.sample_rate))
            if known.sample_rate != options.sample_rate:
                raise RunError(f"the run's features of {name} are at {known.sample_rate} Hz")
    torch.manual_seed(options.seed)
    shown, latents = COMMANDS[options.command](run, options)
    out = options.out or new_folder(folder_within(options.run, "generated"), options.command)
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise RunError(f"{out} is not empty: give another --out")
    files = write(run, shown, latents, out)
    write_json(out / "generated.json", {**_given(options), **environment()})
    for line in run.told:
        print(line, file=sys.stderr)
    print("\n".join(map(str, files)))
    return 0


def _given(options: argparse.Namespace) -> dict[str, Any]:
    return {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}


if __name__ == "__main__":
    sys.exit(main())
