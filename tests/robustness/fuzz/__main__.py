"""Fuzz every reader, each in a process of its own, and write down what was found.

    nice -n 15 python -m tests.robustness.fuzz --files 10000 --out docs/results/trust/fuzz.json
    python -m tests.robustness.fuzz --reader PNG --numbers 7164  # one file, with its traceback

Exit codes: 0 when every reader stood every file, else 1.
"""

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

# The memory of one process, at most: one that asks for more gets a MemoryError.
_MEMORY = 4 << 30
_HANG = 60.0  # seconds of the processor in one file; code in C does not hear the limit of one
_WAITING = 1800.0  # seconds of the clock


def worker(name: str, files: range, seed: int, folder: Path) -> None:
    """Fuzz one reader and leave `outcome.json`; `at` says which file it is at."""
    import torch

    from tests.robustness.fuzz.reader import fuzz
    from tests.robustness.fuzz.readers import READERS

    torch.set_num_threads(1)
    warnings.simplefilter("error")
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    at = os.open(folder / "at", os.O_RDWR | os.O_CREAT)

    def before(number: int, content: bytes) -> None:
        os.pwrite(at, b"%-12d" % number, 0)

    (folder / "files").mkdir()
    os.environ["PVAE_CACHE"] = str(folder / "files" / "cache")
    started = time.monotonic()
    outcome = fuzz(READERS[name], folder / "files", files, seed, before)
    found = {
        "files": outcome.files,
        "read": outcome.read,
        "refused": outcome.refused,
        "seconds": time.monotonic() - started,
        "bytes": outcome.bytes,
        "failures": [[f.number, f.what] for f in outcome.failures or []],
    }
    (folder / "outcome.json").write_text(json.dumps(found))


def supervised(name: str, files: int, seed: int) -> dict[str, Any]:
    """As `worker`, in processes that may die or hang: each time the next goes on after that."""
    total: dict[str, Any] = {"files": 0, "read": 0, "refused": 0, "seconds": 0.0, "bytes": 0}
    failures: list[list[Any]] = []
    start = 0
    while start < files:
        with tempfile.TemporaryDirectory() as temporary:
            command = [
                sys.executable,
                "-m",
                "tests.robustness.fuzz",
                "--reader",
                name,
                "--seed",
                str(seed),
            ]
            command += ["--numbers", f"{start}-{files}", "--worker", temporary]
            with open(Path(temporary, "said"), "wb") as said:
                process = subprocess.Popen(command, stdout=said, stderr=said)
            reason, at = _wait(process, Path(temporary, "at"))
            outcome = Path(temporary, "outcome.json")
            if outcome.exists():
                found = json.loads(outcome.read_text())
                failures += found.pop("failures")
                total = {
                    key: max(total[key], of) if key == "bytes" else total[key] + of
                    for key, of in found.items()
                }
                break
            if at is None:
                raise RuntimeError(f"{name}: {Path(temporary, 'said').read_text()[-2000:]}")
            failures.append([at, reason])
            total["files"] += at + 1 - start
            start = at + 1
    return {**total, "failures": failures}


def _wait(process: subprocess.Popen[bytes], place: Path) -> tuple[str, int | None]:
    last, since, used = None, time.monotonic(), 0.0
    while process.poll() is None:
        time.sleep(0.1)
        at = place.read_bytes() if place.exists() else b""
        if at != last:
            last, since, used = at, time.monotonic(), _processor(process.pid)
        elif at and (_processor(process.pid) - used > _HANG or time.monotonic() - since > _WAITING):
            process.kill()
            process.wait()
            return "hangs, and no signal is heard", int(at)
    return f"the process died ({process.returncode})", int(last) if last else None


def _processor(pid: int) -> float:
    """Seconds that a process has computed (man 5 proc)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _again(name: str, numbers: range, seed: int) -> int:
    """Each file once more, whose traceback is wanted; it is kept beside."""
    from tests.robustness.fuzz.limits import Limit, limits
    from tests.robustness.fuzz.reader import Outcome, content_of, tried
    from tests.robustness.fuzz.readers import READERS

    warnings.simplefilter("error")
    reader, bad = READERS[name], 0
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["PVAE_CACHE"] = str(Path(temporary) / "cache")
        read = reader.prepare(Path(temporary))
        for good in reader.seeds:
            read(good)
        for number in numbers:
            content = content_of(reader, seed, number)
            what = tried(reader, read, Path(temporary), content, Outcome())
            print(f"{number}: {len(content)} bytes, {content[:200]!r}\n  {what or 'nothing wrong'}")
            bad += what is not None
            if what is not None:
                try:
                    with limits(Path(temporary)):
                        read(content)
                except (Exception, Limit):
                    logging.exception("once more")
    return int(bad > 0)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.robustness.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--files", type=int, default=10_000, metavar="N", help="of each reader (10000)")
    add("--seed", type=int, default=0, metavar="N")
    add("--reader", action="append", metavar="NAME", help="these alone")
    add("--numbers", metavar="A[-B]", help="these files alone, in this process")
    add("--out", type=Path, metavar="FILE", help="a summary, of other readers kept as it is there")
    add("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.numbers:
        first, _, end = options.numbers.partition("-")
        numbers = range(int(first), int(end or int(first) + 1))
        if options.worker:
            worker(options.reader[0], numbers, options.seed, options.worker)
            return 0
        return _again(options.reader[0], numbers, options.seed)

    from pvae_pyro.io.checked_json import read_json
    from pvae_pyro.io.provenance import environment, write_json
    from tests.robustness.fuzz.readers import READERS

    made_by = environment()
    found: dict[str, Any] = {}
    for name in options.reader or READERS:
        of = found[name] = supervised(name, options.files, options.seed)
        failures = of.pop("failures")
        of["seed"], of["git_commit"] = options.seed, made_by["git_commit"]
        of["failures"] = len(failures)
        of["seconds"] = round(of["seconds"], 1)
        of["peak_mib_of_a_file"] = round(of.pop("bytes") / 2**20, 1)
        print(f"{name}: {of}", flush=True)
        for what, count in Counter(what for _, what in failures).most_common(20):
            first = next(number for number, other in failures if other == what)
            print(f"  {count} × (first: {first}) {what}", flush=True)
        if options.out is not None:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            earlier = read_json(options.out)["readers"] if options.out.exists() else {}
            write_json(options.out, {"readers": {**earlier, name: of}, **made_by})
    return int(any(of["failures"] for of in found.values()))


if __name__ == "__main__":
    sys.exit(main())
