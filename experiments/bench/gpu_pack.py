"""Packs what `gpu_check.py` needs on a machine with a GPU and no network, into one folder.

    PVAE_DATA=/my/data python experiments/bench/gpu_pack.py [--out gpu-pack]

Into `wheels/` pip downloads the packages that such a machine lacks, in the versions installed here
and built for its Python and platform. `data.safetensors.gz` holds FSDD's features (log-Mel, as
float16) and MNIST's images, with labels, splits and normalisation. `pack.json` tells the classes,
names, speakers, versions, the commit, and the configuration of the paper's preset with each
objective. It prints the folder's size and fails above 50 MiB.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import gzip
import json
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.experiments.support.arguments import place
from pvae_pyro.io.provenance import environment, write_json

DATA, ABOUT, WHEELS = "data.safetensors.gz", "pack.json", "wheels"
PYTHON, PLATFORM = "3.12", "manylinux_2_17_x86_64"  # of the machine with the GPU
# With all that they require but for what such a machine has.
PACKAGES = (
    *("pyro-ppl", "pyro-api", "opt-einsum", "tqdm"),
    *("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions"),
)
OF_TESTS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
MOST = 50 << 20  # bytes
Partitions = Mapping[str, Mapping[str, Examples]]


def write_data(folder: Path, partitions: Partitions, about: Mapping[str, Any]) -> None:
    """split -> modality -> examples; `about` is what else is to be known, in JSON."""
    arrays: dict[str, np.ndarray] = {}
    told: dict[str, dict[str, list[str]]] = {}
    for split, of_split in partitions.items():
        for name, examples in of_split.items():
            values, key = examples.values, f"{split}.{name}"
            told[key] = {"names": list(examples.names), "groups": list(examples.groups)}
            parts = {
                "values": values.astype(np.float16) if values.dtype.kind == "f" else values,
                "labels": examples.labels.astype(np.uint8),
                "loc": np.asarray(examples.normalisation.loc, np.float32),
                "scale": np.asarray(examples.normalisation.scale, np.float32),
            }
            if examples.offsets is not None:
                parts["offsets"] = examples.offsets.astype(np.int64)
            # safetensors writes the memory of an array as it lies.
            arrays |= {f"{key}.{k}": np.require(v, requirements="C") for k, v in parts.items()}
    (folder / DATA).write_bytes(gzip.compress(save(arrays), 6))
    write_json(folder / ABOUT, {**about, "examples": told})


def read_data(folder: Path) -> tuple[dict[str, dict[str, Examples]], dict[str, Any]]:
    """What `write_data` was given, features as float32 again."""
    about = json.loads((folder / ABOUT).read_text("utf-8"))
    arrays = load(gzip.decompress((folder / DATA).read_bytes()))
    partitions: dict[str, dict[str, Examples]] = {}
    for key, told in about["examples"].items():
        split, name = key.split(".")
        values = arrays[f"{key}.values"]
        partitions.setdefault(split, {})[name] = Examples(
            values.astype(np.float32) if values.dtype == np.float16 else values,
            arrays[f"{key}.labels"].astype(np.int64),
            Normalisation(arrays[f"{key}.loc"], arrays[f"{key}.scale"]),
            arrays.get(f"{key}.offsets"),
            told["names"],
            told["groups"],
        )
    return partitions, about


def download_wheels(folder: Path) -> None:
    """Raises CalledProcessError where one does not exist for `PYTHON` and `PLATFORM`."""
    wanted = [f"{name}=={version(name)}" for name in (*PACKAGES, *OF_TESTS)]
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--dest", str(folder)]
    options += ["--implementation", "cp", "--python-version", PYTHON, "--platform", PLATFORM]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, *wanted], check=True)


def size(folder: Path) -> int:
    """In bytes. Raises ValueError above `MOST`."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    if total > MOST:
        largest = max(files, key=lambda path: path.stat().st_size)
        raise ValueError(
            f"{folder} has {total / 2**20:.1f} MiB, and {MOST >> 20} are allowed; the largest file "
            f"is {largest.relative_to(folder)}"
        )
    return total


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=place, default=Path("gpu-pack"), help="the folder (gpu-pack)")
    folder = parser.parse_args(argv).out
    if folder.exists() and not (folder / ABOUT).exists() and any(folder.iterdir()):
        parser.error(f"--out {folder} holds something else: name a new folder")
    # Not above: they need libraries that a machine without a network may lack.
    from pvae_pyro.data.cache import data_root
    from pvae_pyro.experiments.support.config import OBJECTIVES, Options
    from pvae_pyro.experiments.support.data import load_data
    from pvae_pyro.experiments.support.training_run import longest

    options = Options(dataset="fsdd", preset="paper", device="cpu", require_corpus=True)
    data = load_data(options.resolved("cpu"), data_root())
    configs = {
        name: options.model_copy(update={"objective": name})
        .resolved("cpu")
        .but(max_frames=longest(data))
        for name in OBJECTIVES
    }
    made_by = environment()
    about = {
        "commit": made_by["git_commit"],
        "versions": made_by["versions"],
        "corpus": data.corpus,
        "classes": data.classes,
        "configs": {name: config.model_dump(mode="json") for name, config in configs.items()},
    }
    shutil.rmtree(folder, ignore_errors=True)
    (folder / WHEELS).mkdir(parents=True)
    write_data(folder, {"train": data.train, "test": data.test}, about)
    download_wheels(folder / WHEELS)
    try:
        print(f"{folder}: {size(folder) / 2**20:.1f} MiB, commit {about['commit']}")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
