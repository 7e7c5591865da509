"""The runs of a newcomer: whatever masf left on a disk, as runs to be compared
(masf.study.shipped).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from masf.atomic import FileFault
from masf.files.cell import CellSettings
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
    "name a study's folder of results, a folder of masf run -o, or an estimate that masf wrote"
)


def runs_in(path: Path) -> list[Run]:
    """All runs at a path: of a study's results, of a folder of ``masf run -o``, or of one estimate.

    Raises:
        FileFault: where there is none, or a file cannot be used.
        ConfigFault: for the results of a study that cannot be read.
    """
    if not path.exists():
        raise FileFault(path, "does not exist", EXPECTED)
    if path.is_file():
        return [_of_estimate(path, path.stem)]
    if (path / paths.STUDY).is_file():
        return list(_of_study(path))
    files = [file for file in sorted(path.glob("*.nc")) if not file.stem.startswith("truth")]
    if not files:
        raise FileFault(path, "holds no estimate", EXPECTED)
    return [_of_estimate(file, file.stem.split("+members~")[0]) for file in files]


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
        )


def _of_estimate(path: Path, name: str) -> Run:
    """The run that an estimate is of. Its truth is looked for beside it."""
    data = read_estimate(path)
    settings = CellSettings(**json.loads(data.attrs["settings"]))
    spin_up = cycles_left_out(path, data.attrs)
    truth = next(
        (
            found
            for file in (f"truth+members~{settings.members}.nc", "truth.nc")
            if (found := _truth_at(path.with_name(file), settings)) is not None
        ),
        None,
    )
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
        lost=truth is not None
        and lost_track(
            data,
            gap=settings.gap,
            spin_up_cycles=spin_up,
            without_measurements=climatological_spread(truth.truth),
        ),
        spin_up_cycles=spin_up,
        truth="" if truth is None else digest(truth),
    )


def _truth_at(path: Path, settings: CellSettings) -> Truth | None:
    """The truth of a cell in a file; None where the file is not there, or of another cell."""
    if not path.is_file():
        return None
    truth = read_truth(path)
    return truth if truth.settings == settings else None
