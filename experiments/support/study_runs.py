"""The runs of a study (study.py): trained, resumed or taken as they are; evaluated; compared."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pvae_pyro.experiments import evaluate, run_svi
from pvae_pyro.experiments.support.command import INTERRUPTED, RunError
from pvae_pyro.experiments.support.command_line import flag
from pvae_pyro.experiments.support.config import PLACES, Options
from pvae_pyro.experiments.support.data import load_run_data
from pvae_pyro.experiments.support.results import read_evaluation, read_results
from pvae_pyro.experiments.support.run_folder import contradictions
from pvae_pyro.experiments.support.saved_run import CONFIG, RESULTS, read_config
from pvae_pyro.experiments.support.tables import collect, markdown
from pvae_pyro.io.files import write_whole
from pvae_pyro.io.provenance import environment, write_json


@dataclass(frozen=True)
class Study:
    """What is compared, and where.

    rows: all rows of the study, in their order. out: folder of the runs and tables. data: as
    --data. measures: of evaluate.py, besides the coherence; None evaluates nothing and makes the
    paper's Table 1.
    """

    name: str
    rows: list[str]
    out: Path
    data: Path | None
    measures: Iterable[str] | None
    evaluate_limit: int

    def conduct(self, runs: Mapping[tuple[str, int], Options]) -> int:
        """Train and evaluate the runs, (row, seed) -> options; write the tables after each.

        Returns the exit code.
        """
        with tqdm(runs.items(), unit="run", desc=self.name) as bar:
            for (row, seed), asked in bar:
                bar.set_description(f"{self.name}: {row}, seed {seed}")
                folder = self.out / f"{folder_name(row)}{seed}"
                code = run_one(folder, asked, self.data) or self._evaluate(folder, asked)
                if code == INTERRUPTED:
                    print(f"{folder} is not finished; the same command resumes it", file=sys.stderr)
                if code:
                    with contextlib.suppress(OSError):  # remove it if nothing was begun
                        self.out.rmdir()
                    return code
                self._write_tables()
        print((self.out / f"{self.name}.md").read_text("utf-8"))
        return 0

    def _evaluate(self, folder: Path, asked: Options) -> int:
        if self.measures is None:
            return 0
        only = ["--only", "coherence", *self.measures, "--limit", str(self.evaluate_limit)]
        return evaluate.main([str(folder), *only, *_where(asked, self.data)])

    def _write_tables(self) -> None:
        """Of all finished and evaluated runs in `out`, including earlier ones."""
        files: dict[str, Callable[[Path], Any]] = {RESULTS: read_results}
        if self.measures is not None:
            files[evaluate.EVALUATION] = read_evaluation
        found: list[Any] = [
            (row, *(read(folder / name) for name, read in files.items()))
            for row in self.rows
            for folder in sorted(self.out.glob(f"{escape(folder_name(row))}*"))
            if all((folder / name).exists() for name in files)
        ]
        runs = [collect(*of_run) for of_run in found]
        text = markdown(self.name, runs)
        content = {"study": self.name, "runs": runs, **environment()}
        write_json(self.out / f"{self.name}.json", content)
        write_whole(self.out / f"{self.name}.md", text.encode())


def run_one(folder: Path, asked: Options, root: Path | None = None) -> int:
    """Train a run, resume it or take it as it is; the exit code, 0 when there are results.

    root: as --data. Raises RunError where the folder's run has other options.
    """
    if not (folder / CONFIG).exists():
        words = words_of(asked, asked.model_fields_set, root)
        return run_svi.main([*words, "--no-report", "--out", str(folder)])
    config = read_config(folder)
    different = contradictions(asked.resolved(config.device), config)
    if asked.epochs not in (None, config.epochs):  # --resume would allow it
        different.append(f"--epochs {asked.epochs} (the run: {config.epochs})")
    if different:
        raise RunError(f"{folder} has other options: {', '.join(different)}")
    if not (folder / RESULTS).exists():
        return run_svi.main(["--resume", str(folder), *_where(asked, root), "--no-report"])
    places = {name: getattr(asked, name) for name in PLACES if name in asked.model_fields_set}
    if any(getattr(config, name) != value for name, value in places.items()):
        load_run_data(config, folder, root, places)  # raises RunError if the data differ
    return 0


def _where(asked: Options, root: Path | None) -> list[str]:
    """The command-line words for places of data and the device."""
    return words_of(asked, asked.model_fields_set & {*PLACES, "device"}, root)


def words_of(asked: Options, names: Iterable[str], root: Path | None) -> list[str]:
    """The command-line words that give the options `names`, and --data."""
    words = [] if root is None else [f"--data={root}"]
    for name in names:
        value = getattr(asked, name)
        if isinstance(value, bool):
            words.append(flag(name if value else f"no_{name}"))
        else:
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            words.append(f"{flag(name)}={text}")
    return words


def folder_name(row: str) -> str:
    """The name of a row's folders, without the number of the seed at its end."""
    return f"{row.replace(' ', '-').replace(',', '')}-seed"
