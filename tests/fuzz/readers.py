"""Every reader of files that may come from elsewhere."""

from tests.fuzz.reader import Reader
from tests.fuzz.runs import RUNS
from tests.fuzz.sounds import SOUNDS
from tests.fuzz.stores import STORES
from tests.fuzz.tables import TABLES
from tests.fuzz.visuals import VISUALS

READERS: dict[str, Reader] = {
    reader.name: reader for reader in (*SOUNDS, *VISUALS, *TABLES, *STORES, *RUNS)
}
