"""Pack what `gpu_check.py` needs on a machine with a GPU and no network into one folder.

    PVAE_DATA=/my/data python experiments/bench/gpu_pack.py [--out gpu-pack]

pip downloads into `wheels/` the packages that such a machine lacks, in the versions installed here
and built for its Python and platform. `data.safetensors.gz` holds FSDD's features (log-Mel, as
float16) and MNIST's images, with labels and normalisation. `pack.json` holds the classes, the
commit, and the configuration of the paper's preset with each objective.
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
from itertools import product
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.experiments.support.arguments import place
from pvae_pyro.experiments.support.command import entry
from pvae_pyro.io.provenance import environment, write_json

DATA, ABOUT, WHEELS = "data.safetensors.gz", "pack.json", "wheels"
PYTHON, PLATFORM = "3.12", "manylinux_2_17_x86_64"  # of the machine with the GPU
# Only such requirements of pvae_pyro and pytest as the machine lacks.
PACKAGES = (
    *("pyro-ppl", "pyro-api", "opt-einsum", "tqdm"),
    *("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions"),
)
OF_TESTS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
Partitions = Mapping[str, Mapping[str, Examples]]


def write_data(folder: Path, partitions: Partitions, about: Mapping[str, Any]) -> None:
    """Write examples by split and modality; `about` becomes the content of pack.json."""
    arrays: dict[str, np.ndarray] = {}
    for split, of_split in partitions.items():
        for name, examples in of_split.items():
            values = examples.values
            parts = {
                "values": values.astype(np.float16) if values.dtype.kind == "f" else values,
                "labels": examples.labels.astype(np.uint8),
                "loc": np.asarray(examples.normalisation.loc, np.float32),
                "scale": np.asarray(examples.normalisation.scale, np.float32),
            }
            if examples.offsets is not None:
                parts["offsets"] = examples.offsets.astype(np.int64)
            # safetensors writes the memory of an array as it lies.
            arrays |= {
                f"{split}.{name}.{k}": np.require(v, requirements="C") for k, v in parts.items()
            }
    (folder / DATA).write_bytes(gzip.compress(save(arrays), 6))
    write_json(folder / ABOUT, about)


def read_data(folder: Path) -> tuple[dict[str, dict[str, Examples]], dict[str, Any]]:
    """Read what `write_data` wrote, features as float32 again."""
    arrays = load(gzip.decompress((folder / DATA).read_bytes()))
    partitions: dict[str, dict[str, Examples]] = {"train": {}, "test": {}}
    for split, name in product(partitions, ("speech", "image")):  # speech leads the pairing
        key = f"{split}.{name}"
        values = arrays[f"{key}.values"]
        partitions[split][name] = Examples(
            values.astype(np.float32) if values.dtype == np.float16 else values,
            arrays[f"{key}.labels"].astype(np.int64),
            Normalisation(arrays[f"{key}.loc"], arrays[f"{key}.scale"]),
            arrays.get(f"{key}.offsets"),
        )
    return partitions, json.loads((folder / ABOUT).read_text("utf-8"))


def download_wheels(folder: Path) -> None:
    """Raises CalledProcessError where one does not exist for `PYTHON` and `PLATFORM`."""
    wanted = [f"{name}=={version(name)}" for name in (*PACKAGES, *OF_TESTS)]
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--dest", str(folder)]
    options += ["--implementation", "cp", "--python-version", PYTHON, "--platform", PLATFORM]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, *wanted], check=True)


@entry("", subprocess.CalledProcessError)
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=place, default=Path("gpu-pack"), help="folder (gpu-pack)")
    folder = parser.parse_args(argv).out
    if folder.exists() and not (folder / ABOUT).exists() and any(folder.iterdir()):
        parser.error(f"--out {folder} holds something else: name a new folder")
    # Not above: they need libraries that a machine without a network may lack.
    from pvae_pyro.data.cache import data_root
    from pvae_pyro.experiments.support.config import OBJECTIVES, Options
    from pvae_pyro.experiments.support.data import load_data, longest

    def config(objective: str) -> Any:
        fixed = {"dataset": "fsdd", "preset": "paper", "require_corpus": True, "device": "cpu"}
        return Options.model_validate({**fixed, "objective": objective}).resolved("cpu")

    data = load_data(config("paper"), data_root())
    about = {
        "commit": environment()["git_commit"],
        "corpus": data.corpus,
        "classes": data.classes,
        "configs": {
            name: config(name).but(max_frames=longest(data)).model_dump(mode="json")
            for name in OBJECTIVES
        },
    }
    shutil.rmtree(folder, ignore_errors=True)
    (folder / WHEELS).mkdir(parents=True)
    write_data(folder, {"train": data.train, "test": data.test}, about)
    download_wheels(folder / WHEELS)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 2**20:.1f} MiB, commit {about['commit']}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
