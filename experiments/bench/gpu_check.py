"""Check on a machine with a GPU what cannot be seen without one; the results are one JSON file.

    python experiments/bench/gpu_pack.py   # beforehand, where there are data and a network
    python experiments/bench/gpu_check.py  # on the machine: --packed gpu-pack --json gpu-check.json

The machine needs torch, numpy, scikit-learn, safetensors, and the packed folder. The parts are:

* tests: those marked `cuda`, by pytest in a process of its own;
* steps: seconds and memory of a step of the paper's preset, with either objective, in float32 and
  bfloat16; the paper's also by hand in plain torch (speed.py);
* resume: a training is stopped, resumed, and compared with one that was left alone;
* paper, ours: a training on FSDD with that objective, for at most --minutes, and purities.

The file is written after each part. A part that fails leaves its traceback, and the exit code is 1.
`--device cpu --tiny` tries everything out.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import os
import tempfile
import time
import traceback
import zipfile
from typing import Any

from pvae_pyro.experiments.support.arguments import place

# torch is imported later too: it imports typing_extensions, of which pydantic needs a recent one.
ROOT = Path(__file__).resolve().parents[2]
PARTS = ("tests", "steps", "resume", "paper", "ours")  # functions of gpu_parts.py


def use_wheels(packed: Path, scratch: Path) -> None:
    """Let this process and its children import this repository and the packed wheels."""
    for wheel in sorted((packed / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as content:
            content.extractall(scratch)
    own = [str(ROOT), str(scratch)]
    sys.path[:0] = own
    os.environ["PYTHONPATH"] = os.pathsep.join([*own, *filter(None, [os.getenv("PYTHONPATH")])])


def machine(device: str) -> dict[str, Any]:
    """Names and versions of the GPU, CUDA and cuDNN."""
    import torch

    if not device.startswith("cuda"):
        return {"device": device}
    cudnn = torch.backends.cudnn.version()
    return {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "cudnn": cudnn}


def run_parts(check: Any, names: list[str], file: Path) -> int:
    """Run each part in turn and write `file` after each. Returns the exit code."""
    from pvae_pyro.experiments.bench import gpu_parts
    from pvae_pyro.io.provenance import environment, write_json

    begun, parts, code = time.monotonic(), dict[str, Any](), 0
    report = {
        "machine": machine(check.device),
        **environment(),
        "packed": {key: check.data[1][key] for key in ("commit", "corpus")},
        "tiny": check.tiny,
        "parts": parts,
    }
    for name in names:
        started = time.monotonic()
        print(f"{name} …", flush=True)
        try:
            parts[name] = getattr(gpu_parts, name)(check)
        except Exception:  # the other parts must not be lost
            parts[name] = {"error": traceback.format_exc()}
        parts[name]["seconds"] = time.monotonic() - started
        code |= "error" in parts[name] or parts[name].get("failed", 0) > 0
        write_json(file, {**report, "seconds": time.monotonic() - begun})
    print(file.read_text("utf-8"))
    return int(code)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--packed", type=place, default=Path("gpu-pack"), help="folder of gpu_pack.py (gpu-pack)")
    add("--json", type=place, default=Path("gpu-check.json"), help="(gpu-check.json)")
    add("--minutes", type=float, default=2.0, help="at most, for each of the two trainings (2)")
    add("--device", default="cuda", help="(cuda)")
    add("--tiny", action="store_true", help="use few examples and small networks")
    add("--parts", nargs="+", choices=PARTS, default=[*PARTS], help="(all)")
    arguments = parser.parse_args(argv)
    if not (arguments.packed / "pack.json").exists():
        parser.error(f"--packed {arguments.packed} has no pack.json; run gpu_pack.py first")
    with tempfile.TemporaryDirectory() as scratch:
        use_wheels(arguments.packed, Path(scratch))
        import torch  # not before: see above

        from pvae_pyro.experiments.bench.gpu_parts import Check  # it needs the wheels

        if arguments.device.startswith("cuda") and not torch.cuda.is_available():
            parser.error("CUDA is not available; --device cpu --tiny tries the check out")
        check = Check(arguments.packed, arguments.device, arguments.tiny, 60 * arguments.minutes)
        return run_parts(check, arguments.parts, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
