"""Progress bars: on standard error, where that is a terminal and nobody wants quiet."""

from __future__ import annotations

import os
import sys
from typing import Any

from tqdm import tqdm

SILENT = "TQDM_DISABLE"
"""The environment variable that silences bars: tqdm's own, which a program of others that masf runs
may know too.
"""


def progress_bar(iterable: Any = None, **options: Any) -> tqdm[Any]:
    """A bar of tqdm's, with its arguments; ``disable=True`` shows none."""
    silent = bool(options.pop("disable", None) or os.environ.get(SILENT))
    return tqdm(iterable, disable=silent or None, file=sys.stderr, **options)
