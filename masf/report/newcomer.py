"""The runs of a newcomer: whatever masf left on a disk, as runs to be compared
(masf.study.shipped).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from masf.atomic import FileFault
from masf.files.cell import CellSettings
from masf.files.cost import mean_model_runs
from masf.files.estimate import read_estimate
from masf.files.truth import Truth, digest, read_truth
from masf.report.rows import read_rows
from masf.scores.comparison import lacking
from masf.scores.run import score
from masf.scores.tracking import climatological_spread, lost_track
from masf.study import paths
from masf.study.load import cycles_left_out, load_results
from masf.study.shipped import SCORES, Run
from masf.systems.registry import make_system, system_class, system_names

EXPECTED = (
    "name a study's folder of results, a folder of masf run -o, one that holds such folders, or an "
    "estimate that masf wrote"
)


def runs_in(path: Path) -> list[Run]:
    """All runs at a path: of a study's results, of a folder of ``masf run -o``, of all such folders
    in a folder, or of one estimate.

    Raises:
        FileFault: where there is none, or a file cannot be used.
        ConfigFault: for the results of a study that cannot be read.
    """
    if not path.exists():
        raise FileFault(path, "does not exist", EXPECTED)
    if path.is_file():
        return [_of_estimate(path, path.stem)]
    found = list(_of_folder(path))
    if not found:
        raise FileFault(path, "holds no estimate", EXPECTED)
    return found


def _of_folder(folder: Path) -> Iterator[Run]:
    """The runs in a folder, and in those within it."""
    if (folder / paths.STUDY).is_file():
        yield from _of_study(folder)
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if not path.is_symlink():  # which may lead back here
                yield from _of_folder(path)
        elif path.suffix == ".nc" and not path.stem.startswith("truth"):
            yield _of_estimate(path, path.stem.split("+members~")[0])


def _of_study(folder: Path) -> Iterator[Run]:
    """The runs of a study, as scores.parquet has them; those that came with masf are left out."""
    study = load_results(folder)
    path = folder / paths.SCORES
    if not path.is_file():
        raise FileFault(path, "does not exist", "run the workflow to its end, or masf preview")
    rows = read_rows(path, "scores")
    rows = rows[~lacking(rows)]
    if "shipped" in rows:
        rows = rows[rows["shipped"].isna()]
    costs = read_rows(folder / paths.COSTS, "costs").set_index(["cell", "filter"])
    members_run = costs["model_runs_per_cycle"].to_dict()
    digests: dict[str, str] = {}
    for row in rows.to_dict("records"):
        cell = study.cells.get(row["cell"])
        if cell is None:
            continue  # of an experiment that the config no longer has
        if cell.truth not in digests:
            truth = _truth_at(folder / cell.truth, cell.settings)
            digests[cell.truth] = "" if truth is None else digest(truth)
        yield Run(
            settings=cell.settings,
            filter=str(row["filter"]),
            scores={key: float(row.get(key, float("nan"))) for key in SCORES},
            diverged=bool(row["diverged"]),
            lost=bool(row["lost"]),
            spin_up_cycles=cell.spin_up_cycles,
            truth=digests[cell.truth],
            source=str(folder),
            model_runs=members_run.get((row["cell"], row["filter"]), math.nan)
            / cell.settings.members,
        )


def _of_estimate(path: Path, name: str) -> Run:
    """The run that an estimate is of. Its truth is looked for beside it."""
    data = read_estimate(path)
    settings = CellSettings(**json.loads(data.attrs["settings"]))
    spin_up = cycles_left_out(path, data.attrs)
    truth = _truth_beside(path, settings)
    flow = settings.system in system_names() and system_class(settings.system).flow
    velocities = None
    if truth is not None and flow:
        system = make_system(settings.system, settings.parameters)
        velocities = truth.truth.reshape(len(truth.truth), *system.shape)
    scores = score(data, gap=settings.gap, spin_up_cycles=spin_up, velocities=velocities)
    return Run(
        settings=settings,
        filter=name,
        scores={key: scores[key] for key in SCORES},
        diverged=bool(data.attrs["diverged"]),
        lost=truth is not None and _lost(data, truth, spin_up),
        spin_up_cycles=spin_up,
        truth="" if truth is None else digest(truth),
        source=str(path),
        model_runs=mean_model_runs(data["model_runs"].values) / settings.members,
    )


def lost_beside_truth(path: Path, data: Any, spin_up_cycles: int) -> bool:
    """Whether an estimate in a file lost track of the truth that lies beside it; False where none
    does.
    """
    truth = _truth_beside(path, CellSettings(**json.loads(data.attrs["settings"])))
    return truth is not None and _lost(data, truth, spin_up_cycles)


def _lost(data: Any, truth: Truth, spin_up_cycles: int) -> bool:
    return lost_track(
        data,
        gap=truth.settings.gap,
        spin_up_cycles=spin_up_cycles,
        without_measurements=climatological_spread(truth.truth),
    )


def _truth_beside(path: Path, settings: CellSettings) -> Truth | None:
    """The truth of a cell beside an estimate of it; None where it is not there."""
    for file in (f"truth+members~{settings.members}.nc", "truth.nc"):
        if (found := _truth_at(path.with_name(file), settings)) is not None:
            return found
    return None


def _truth_at(path: Path, settings: CellSettings) -> Truth | None:
    """The truth of a cell in a file; None where the file is not there, or of another cell."""
    if not path.is_file():
        return None
    truth = read_truth(path)
    return truth if truth.settings == settings else None
