"""What came of faults and extremes, for docs/results/trust: written where `$PVAE_TRUST` says."""

import json
import os
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from pvae_pyro.io.provenance import environment, write_json


@cache
def _made_by() -> dict[str, Any]:
    """At first, while nothing that git knows is written."""
    return {"device": "cpu", **environment()}


def record(kind: str, name: str, outcome: Any) -> None:
    """Add ``name: outcome`` to those of this commit in ``$PVAE_TRUST/<kind>.json``."""
    if folder := os.environ.get("PVAE_TRUST"):
        made_by = _made_by()
        path = Path(folder) / f"{kind}.json"
        content = json.loads(path.read_text()) if path.exists() else {}
        before = content["outcomes"] if content.get("git_commit") == made_by["git_commit"] else {}
        if isinstance(outcome, str):  # where the test happened to be is of no interest
            outcome = re.sub(rf"{re.escape(tempfile.gettempdir())}/[^\s']*/", "…/", outcome)
        outcomes = dict(sorted({**before, name: outcome}.items()))
        write_json(path, {"outcomes": outcomes, **made_by})
