"""Runs whose scores come with masf: those of the studies behind its figures, so that a new filter
is compared with rivals that nobody has to run again.

They stand in ``shipped_runs.csv.gz``, which ``benchmarks/ship.py`` writes from the results that
benchmarks/results holds. A run has the settings of its cell, its scores, how often it ran the
model, and the digest of its truth (:func:`masf.files.truth.digest`) where that is known to be what
a simulation gives today.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from masf.atomic import replacing
from masf.files.cell import CellSettings
from masf.gaps import as_gap
from masf.observations.settings import observation_settings
from masf.systems.registry import system_class, system_names

SHIPPED = Path(__file__).parent / "shipped_runs.csv.gz"

SCORES = ("rmse", "rmse_analysis", "spread_skill", "crps", "ssim", "csi")
"""Scores that are kept of each run, where its study has them."""
DIGITS = 4
"""How many digits of a score are kept after the point."""

KEYS = (
    "study", "system", "parameters", "observation", "gap", "cycles", "spin_up_cycles", "members",
    "initial_spread", "seed", "filter", *SCORES, "diverged", "lost", "model_runs", "truth",
)  # fmt: skip
"""Columns of the file."""

Pairing = Literal["checksum", "settings"]
"""What says that two runs had the same truth and measurements: their digests, or, where one of them
is not known, the settings of their cells with the seed.
"""


@dataclass(frozen=True)
class Run:
    """A filter's run in a cell, and its scores."""

    settings: CellSettings
    filter: str
    scores: dict[str, float]
    """NaN of a run that diverged."""
    diverged: bool
    lost: bool
    """Whether it lost track; False where nobody has looked."""
    spin_up_cycles: int
    truth: str = ""
    """Digest of the truth; empty where it is not known."""
    source: str = ""
    """The study that it is from; of a run that does not come with masf, the file."""
    model_runs: float = math.nan
    """Forecasts of one member from one measurement to the next that a cycle took, mean over cycles;
    NaN where it is not known.
    """

    @property
    def situation(self) -> str:
        return situation(self.settings)


def variant(filter_name: str, *, several: bool) -> str:
    """What runs of a filter are called by their passes (masf.filters.passes): with several, which
    run the model as often, it is not the filter that runs it once.
    """
    return f"{filter_name}_passes" if several else filter_name


def told_apart(filter_name: str) -> tuple[str, str]:
    """The module of a shipped filter, and what tells it from others of that module: ``passes``, or
    its number where there are several with other parameters in one situation, as ``letkf_2``.
    """
    found = re.fullmatch(r"(.+?)(?:_(passes|\d+))?", filter_name)
    assert found is not None
    return found[1], found[2] or ""


def shipped_name(filter_name: str) -> str:
    """What a study calls a filter whose runs come with masf."""
    return f"{filter_name}_shipped"


def situation(settings: CellSettings) -> str:
    """What a cell shares with those of other seeds and lengths, in one way of writing: defaults
    filled in.
    """
    parameters = settings.parameters
    if settings.system in system_names():
        fields = system_class(settings.system).Parameters(**parameters)
        parameters = fields.model_dump()
    return json.dumps(
        {
            "system": settings.system,
            "parameters": {
                k: float(v) if isinstance(v, int | float) else v for k, v in parameters.items()
            },
            "observation": _plain(observation_settings(settings.observation).written()),
            "gap": settings.gap,
            "members": settings.members,
            "initial_spread": settings.initial_spread,
            "model": None if settings.model is None else vars(settings.model),
        },
        sort_keys=True,
    )


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    """With whole numbers and others alike: noise 1 is noise 1.0."""
    return {
        k: float(v) if isinstance(v, int) and not isinstance(v, bool) else v
        for k, v in content.items()
    }


def pairing(own: Run, other: Run) -> Pairing | None:
    """What says that two runs of a situation had the same truth and measurements; None where they
    had not, or scored other cycles of it.
    """
    same_length = (own.settings.cycles, own.spin_up_cycles) == (
        other.settings.cycles,
        other.spin_up_cycles,
    )
    if not same_length or own.settings.seed != other.settings.seed:
        return None
    if own.truth and other.truth:
        return "checksum" if own.truth == other.truth else None
    return "settings"


@cache
def shipped_runs() -> tuple[Run, ...]:
    """All runs that come with masf."""
    return tuple(read_runs(SHIPPED))


def read_runs(path: Path) -> Iterable[Run]:
    """The runs in a file as :func:`write_runs` leaves it."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield Run(
                settings=CellSettings(
                    system=row["system"],
                    parameters=json.loads(row["parameters"]),
                    observation=json.loads(row["observation"]),
                    gap=as_gap(row["gap"]),
                    cycles=int(row["cycles"]),
                    members=int(row["members"]),
                    initial_spread=float(row["initial_spread"]),
                    seed=int(row["seed"]),
                ),
                filter=row["filter"],
                scores={key: float(row[key] or "nan") for key in SCORES},
                diverged=row["diverged"] == "1",
                lost=row["lost"] == "1",
                spin_up_cycles=int(row["spin_up_cycles"]),
                truth=row["truth"],
                source=row["study"],
                model_runs=float(row["model_runs"] or "nan"),
            )


def write_runs(path: Path, runs: Iterable[Run]) -> None:
    """Writes runs; the same runs give the same file."""
    text = io.StringIO()
    rows = csv.DictWriter(text, KEYS, lineterminator="\n")
    rows.writeheader()
    rows.writerows(map(_row, runs))
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def _row(run: Run) -> dict[str, Any]:
    s = run.settings
    return {
        "study": run.source,
        "system": s.system,
        "parameters": json.dumps(s.parameters, sort_keys=True),
        "observation": json.dumps(s.observation, sort_keys=True),
        "gap": s.gap,
        "cycles": s.cycles,
        "spin_up_cycles": run.spin_up_cycles,
        "members": s.members,
        "initial_spread": s.initial_spread,
        "seed": s.seed,
        "filter": run.filter,
        **{k: "" if (v := run.scores[k]) != v else f"{v:.{DIGITS}f}" for k in SCORES},
        "diverged": int(run.diverged),
        "lost": int(run.lost),
        "model_runs": "" if math.isnan(run.model_runs) else f"{run.model_runs:.4g}",
        "truth": run.truth,
    }
