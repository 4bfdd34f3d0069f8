"""Every reader of files that may come from elsewhere."""

from tests.robustness.fuzz.reader import Reader
from tests.robustness.fuzz.runs import RUNS
from tests.robustness.fuzz.sounds import SOUNDS
from tests.robustness.fuzz.stores import STORES
from tests.robustness.fuzz.tables import TABLES
from tests.robustness.fuzz.visuals import VISUALS

READERS: dict[str, Reader] = {
    reader.name: reader for reader in (*SOUNDS, *VISUALS, *TABLES, *STORES, *RUNS)
}
