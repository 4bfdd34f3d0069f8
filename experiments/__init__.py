"""Commands. A user who has no home folder has the root for one, as in Docker."""

import os
from pathlib import Path

try:
    Path.home()
except RuntimeError:  # neither $HOME nor an entry of this user; libraries ask for one
    os.environ["HOME"] = os.sep
