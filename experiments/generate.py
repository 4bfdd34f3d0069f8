"""Say this digit in that voice, write it in that hand: generation from a finished run.

    python experiments/generate.py translate runs/my-run --from my_seven.wav --style hand.png
    python experiments/generate.py translate runs/my-run --from five.png --draws 4
    python experiments/generate.py restyle runs/my-run --from my_seven.wav --style her_two.wav
    python experiments/generate.py reconstruct runs/my-run --from five.png
    python experiments/generate.py interpolate runs/my-run --from 3.png --to 8.png --in z_sem
    python experiments/generate.py sample runs/my-run --draws 8

A file may be a sound of any rate, with any channels, or a picture of any size, ink dark or light.
It is prepared as the training data were: more than 0.25 s of silence at the ends of speech is cut
off (see --trim), and a level far from theirs is changed. If the run has grey pictures of 28 x 28
pixels, light and dark are as in training, a digit is scaled and centred as in MNIST, and a
photograph of a sheet must be cropped to its inside. Other pictures are only padded and resized.
The changes are printed. The first panels of sheet.png, and from-*.wav, show what
the model saw. If the run has several modalities of sounds, name that of a file:
--from spanish:dos.wav. Without --style, styles are drawn from the prior.

The folder --out (default: RUN/generated/<command>-<time>) gets sheet.png, a PNG (of 28 pixels, 8
times as large) or a WAV for each input and output, and generated.npz with their values and with
the latents that were inferred from --from (for `sample`, drawn). The output is the mean of its
distribution: only what comes from the prior is random. Exit codes: 0, 1 for an error, 2 for wrong
usage.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import time
from itertools import chain, count
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pvae_pyro import generation
from pvae_pyro.batch import Observation
from pvae_pyro.data.audio.synthesis import level_matched, to_waveform, write_wav
from pvae_pyro.experiments.support.arguments import Help, add_place, add_seed, number, place
from pvae_pyro.experiments.support.command import RunError, entry
from pvae_pyro.experiments.support.generator import Generator
from pvae_pyro.experiments.support.saved_run import folder_within
from pvae_pyro.figures.observations import SequenceAxes, panels
from pvae_pyro.figures.style import save_figure
from pvae_pyro.figures.titled_panels import titled_panels_figure
from pvae_pyro.io.provenance import environment, write_json

HEIGHT = 224  # pixels of a picture that is written, at most; a smaller one is enlarged
LEVEL = 0.1  # root mean square of a sound, full scale being 1

Shown = list[tuple[str, str, Observation]]  # title, modality, examples


def translate(run: Generator, options: argparse.Namespace) -> tuple[Shown, dict[str, Tensor]]:
    source, content = run.read(options.source, options.trim, options.channel)
    target, style = options.target, None
    shown: Shown = [("from", source, content)]
    if options.style is not None:
        target, style = run.read(options.style, options.trim, options.channel)
        if options.target not in (None, target):
            raise RunError(f"--into is {options.target}, but the style is {target}")
        shown.append(("style", target, style))
    others = [name for name in run.names if name != source]
    target = target or (others[0] if len(others) == 1 else None)
    if target not in run.names:
        raise RunError(f"give --into, one of {', '.join(run.names)}, or a --style")
    draws = 1 if style is not None else options.draws
    lengths = None if content.lengths is None else content.lengths.repeat(draws)
    value = content.value.repeat(draws, *[1] * (content.value.dim() - 1))
    repeated = {source: Observation(value, lengths)}
    made = generation.translate(run.model, run.guide, repeated, target, style)
    shown.append(("translated" if source != target else "restyled", target, made))
    return shown, generation.infer(run.guide, {source: content})


def restyle(run: Generator, options: argparse.Namespace) -> tuple[Shown, dict[str, Tensor]]:
    if run.modality_of(options.source)[0] != run.modality_of(options.style)[0]:
        raise RunError("restyle needs two sounds or two pictures; see translate")
    return translate(run, options)


def reconstruct(run: Generator, options: argparse.Namespace) -> tuple[Shown, dict[str, Tensor]]:
    name, content = run.read(options.source, options.trim, options.channel)
    latents = generation.infer(run.guide, {name: content})
    made = generation.decode(run.model, latents, [name])[name]
    return [("from", name, content), ("reconstructed", name, made)], latents


def interpolate(run: Generator, options: argparse.Namespace) -> tuple[Shown, dict[str, Tensor]]:
    (name, start), (other, end) = (
        run.read(file, options.trim, options.channel) for file in (options.source, options.to)
    )
    if name != other:
        raise RunError("interpolate needs two sounds or two pictures")
    start_z, end_z = (generation.infer(run.guide, {name: x}) for x in (start, end))
    sites = {
        "z_sem": list(generation.shared_of(start_z)),
        "z_style": list(generation.style_of(start_z, name)),
        "both": list(start_z),
    }
    moved = sites[options.latent]
    if not moved:
        raise RunError(f"this model has no {options.latent}")
    made = generation.interpolate(run.model, start_z, end_z, moved, [name], options.steps)[name]
    return [("from", name, start), ("to", name, end), ("between", name, made)], start_z


def sample(run: Generator, options: argparse.Namespace) -> tuple[Shown, dict[str, Tensor]]:
    made, shared = generation.sample(run.model, options.draws, run.names)
    return [("sample", name, x) for name, x in made.items()], shared


COMMANDS = {f.__name__: f for f in (translate, restyle, reconstruct, interpolate, sample)}


def write(run: Generator, shown: Shown, latents: dict[str, Tensor], out: Path) -> list[Path]:
    """Write all files into the folder `out`, and return them."""
    files: list[Path] = []
    drawn: list[tuple[np.ndarray, str, SequenceAxes | None]] = []
    arrays: dict[str, Any] = {f"inferred-{site}": z.cpu().numpy() for site, z in latents.items()}
    for title, name, x in shown:
        of = panels(x, run.normalisation[name])
        settings = run.log_mels.get(name)
        axes = None if x.lengths is None else SequenceAxes()
        if settings:
            axes = SequenceAxes(settings.hop, settings.centre_frequencies)
        for n, panel in enumerate(of):
            key = f"{title}-{name}" + f"-{n}" * (len(of) > 1)
            drawn.append((panel, f"{title}: {name}" + f" {n}" * (len(of) > 1), axes))
            arrays[key] = panel
            if settings:
                files.append(out / f"{key}.wav")
                samples = to_waveform(np.ascontiguousarray(panel.T), settings)
                write_wav(files[-1], level_matched(samples, LEVEL), settings.sample_rate)
            elif x.value.dim() == 4:
                files.append(out / f"{key}.png")
                pixels = np.clip(panel, 0, 255).round().astype(np.uint8)
                times = max(HEIGHT // len(pixels), 1)
                Image.fromarray(pixels.repeat(times, 0).repeat(times, 1)).save(files[-1])
    figure = titled_panels_figure(*zip(*drawn, strict=True))
    files += save_figure(figure, out / "sheet", ["png"])
    np.savez_compressed(out / "generated.npz", **arrays)
    return [*files, out / "generated.npz"]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in COMMANDS:
        add = commands.add_parser(name, allow_abbrev=False, formatter_class=Help).add_argument
        add("run", type=place, help="folder of a finished run")
        out = "folder of the output; else RUN/generated/<command>-<time>"
        add("--out", type=place, metavar="DIR", help=out)
        add_place(add, data=False)
        add_seed(add, "the draws from the prior")
        if name != "sample":
            source = "the sound or picture to start from"
            add("--from", dest="source", required=True, metavar="FILE", help=source)
            trim = "cut off silence at both ends of speech; default: if it exceeds 0.25 s in all"
            add("--trim", action=argparse.BooleanOptionalAction, help=trim)
            channel = number(int, least=1, most=1024)
            add("--channel", type=channel, metavar="N", help="channel of a sound, from 1 (mean)")
        if name in ("translate", "restyle"):
            style = "the file whose style to take"
            add("--style", required=name == "restyle", metavar="FILE", help=style)
        if name == "translate":
            into = "the modality to generate; required without --style if there are several"
            add("--into", dest="target", metavar="MODALITY", help=into)
        if name in ("translate", "sample"):
            draws = number(int, above=0, most=1000)
            add("--draws", type=draws, default=4, metavar="N", help="number of draws (4)")
        if name == "interpolate":
            add("--to", required=True, metavar="FILE", help="the file to end at")
            add("--in", dest="latent", choices=("z_sem", "z_style", "both"), default="z_sem")
            add(
                "--steps",
                type=number(int, least=2, most=1000),
                default=8,
                metavar="N",
                help="examples (8)",
            )
    commands.choices["restyle"].set_defaults(target=None, draws=1)
    return parser


def new_folder(parent: Path, command: str) -> Path:
    """A folder that does not exist yet, named after the command and the time."""
    name = f"{command}-{time.strftime('%Y%m%d-%H%M%S')}"
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(parent / name for name in names if not (parent / name).exists())


@entry("", ValueError)
def main(argv: list[str] | None = None) -> int:
    options = make_parser().parse_args(argv)
    run = Generator(options.run, options.device)
    torch.manual_seed(options.seed)
    shown, latents = COMMANDS[options.command](run, options)
    out = options.out or new_folder(folder_within(options.run, "generated"), options.command)
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise RunError(f"{out} is not empty: give another --out")
    files = write(run, shown, latents, out)
    given = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    write_json(out / "generated.json", {**given, **environment()})
    for line in run.remarks:
        print(line, file=sys.stderr)
    print("\n".join(map(str, files)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
