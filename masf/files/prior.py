"""The file of a prior, as it is read with torch and without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from masf.atomic import FileFault, made_again, unreadable

FORMAT = "masf-prior-3"


def read_prior(path: Path, framework: Literal["np", "pt"]) -> tuple[dict[str, str], dict[str, Any]]:
    """Metadata and tensors, these as numpy arrays or as torch's.

    Raises:
        FileFault: if the file is missing, or is not a prior of this format.
    """
    try:
        with safe_open(path, framework) as f:
            metadata = json.loads((f.metadata() or {}).get("masf", "{}"))
            tensors = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, ValueError) as error:
        raise unreadable(
            path,
            error,
            fault="cannot be read as a prior",
            remedy=made_again("train-prior"),
            missing="run stage train-prior first",
        ) from error
    if metadata.get("format") != FORMAT:
        raise FileFault(path, f"is not a prior of format {FORMAT}", "run stage train-prior again")
    return metadata, tensors
