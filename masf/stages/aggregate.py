"""Stage aggregate: all results in one table of scores and one of costs, and tables for people."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from masf.atomic import FileFault
from masf.files.cost import mean_model_runs, read_cost
from masf.files.estimate import read_estimate
from masf.files.parameters import ParameterSource, in_force
from masf.files.provenance import content
from masf.files.truth import digest, read_states, read_truth, read_velocities
from masf.files.tuned import Tuned, tuned_for
from masf.report.rows import tuned_in
from masf.report.tables import write_tables
from masf.report.words import source_in_words
from masf.scores.averages import ERROR_OF_ANALYSIS, averages, error_of_analysis
from masf.scores.comparison import lacking
from masf.scores.exactness import NEEDED, Reference
from masf.scores.run import SCORES, score
from masf.scores.tracking import climatological_spread, lost_track
from masf.study.cells import Cell
from masf.study.messages import ConfigFault
from masf.study.shipped import Run
from masf.study.study import Study
from masf.systems.registry import system_class

log = logging.getLogger(__name__)


def diagnostics(cell: Cell, data: Any) -> dict[str, float]:
    """Mean after spin-up of each number that the filter tells of itself, over the cycles in which
    it measured something; empty if it diverged.
    """
    if data.attrs["diverged"]:
        return {}
    found = {
        name: data[name].values[cell.spin_up_cycles :]
        for name in data
        if name.startswith("diagnostic_")
    }
    told = {name: values[~np.isnan(values)] for name, values in found.items()}
    return {k: float(values.mean()) if len(values) else np.nan for k, values in told.items()}


def gather(study: Study, *, allow_missing: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and costs, one row a cell and filter.

    With ``allow_missing``, runs that are not there, or were made with other settings than the
    study's, have rows without scores; a column ``missing`` tells which.

    Raises:
        FileFault: for a result that is missing, damaged, or of another cell than its place says.
        ConfigFault: where different versions of a filter's code made the results.
    """
    scores, costs = [], []
    versions: dict[tuple[str, str], dict[str, Path]] = defaultdict(dict)
    read = cache(tuned_for)  # many cells take what was tuned at one point
    for cell in study.cells.values():
        needed = NEEDED if cell.reference else ()
        load = partial(_load_if_there if allow_missing else _load, study, cell, needed, read)
        free_run = next((name for name in cell.filters if name in study.free_runs), None)
        first = {
            name: data
            for name in (cell.reference, free_run)
            if name is not None and (data := load(name)) is not None
        }  # what the others are measured against
        reference = _reference(cell, first.get(cell.reference or ""))
        is_flow = system_class(cell.settings.system).flow
        truth = study.results / cell.truth
        known = is_flow and (truth.is_file() or not allow_missing)
        velocities = read_velocities(truth, cell.settings) if known else None
        without_measurements = cache(
            partial(_error_without_measurements, study, cell, first.get(free_run or ""))
        )
        for name in cell.filters:
            data = first[name] if name in first else load(name)
            keys = run_keys(cell, name) | ({"missing": data is None} if allow_missing else {})
            if data is None:
                scores.append({**keys, "diverged": False, "lost": False})
                costs.append(keys)
                continue
            path = study.results / cell.estimate(name)
            versions[name, cell.settings.system].setdefault(data.attrs["code_version"], path)
            # The reference is not measured against itself.
            own = score(
                data,
                gap=cell.settings.gap,
                spin_up_cycles=cell.spin_up_cycles,
                reference=reference if name != cell.reference else None,
                velocities=velocities,
            )
            lost = lost_track(
                data,
                gap=cell.settings.gap,
                spin_up_cycles=cell.spin_up_cycles,
                without_measurements=without_measurements(),
            )
            made_by = {
                key: data.attrs[key]
                for key in ("filter_parameters", "parameter_source", "code_version")
            }
            diverged = bool(data.attrs["diverged"])
            error = error_of_analysis(
                data, gap=cell.settings.gap, spin_up_cycles=cell.spin_up_cycles
            )
            said = {
                ERROR_OF_ANALYSIS: error,
                "diverged": diverged,
                "lost": lost,
                **diagnostics(cell, data),
            }
            scores.append({**keys, **own, **said, **made_by})
            costs.append({**keys, **_cost(study.results / cell.cost(name))})
    for run, keys in _shipped(study):
        found: dict[str, Any] = {**dict.fromkeys(SCORES, float("nan")), **run.scores}
        found |= {"diverged": run.diverged, "lost": run.lost, "shipped": run.source}
        none_missing = {"missing": False} if allow_missing else {}
        scores.append({**keys, **found, **none_missing})
        costs.append({**keys, "model_runs_per_cycle": run.model_runs * run.settings.members})
    if not study.config.accept_mixed_versions:
        _check_one_version(versions)
    return _table(scores), _table(costs)


def _shipped(study: Study) -> list[tuple[Run, dict[str, Any]]]:
    """The runs that come with masf, each with what tells its row from others. Those of a situation
    are left out where some truth is another than theirs: their differences to the study's would not
    be paired.
    """
    found: dict[str, list[tuple[Run, dict[str, Any]]]] = defaultdict(list)
    others: dict[str, set[str]] = defaultdict(set)
    for path, runs in study.shipped.items():
        cell = study.cells[path]
        truth = study.results / cell.truth
        own = ""
        if any(run.truth for run in runs.values()) and truth.is_file():
            own = digest(read_truth(truth))
        for name, run in runs.items():
            if own and run.truth and own != run.truth:
                others[cell.point].add(name)
            found[cell.point].append((run, run_keys(cell, name)))
    for point, names in others.items():
        log.warning(
            "%s: the truth is another one than that of shipped runs, though its settings are the "
            "same, as where another machine rounds otherwise: %s left out; `masf compare` has them "
            "unpaired",
            point,
            ", ".join(sorted(names)),
        )
    return [
        (run, keys)
        for point, runs in found.items()
        for run, keys in runs
        if keys["filter"] not in others[point]
    ]


class OtherSettings(FileFault):
    """A result that was made with other settings than the study's."""


def _load(
    study: Study,
    cell: Cell,
    needed: Collection[str],
    read: Callable[[str, str, Path], Tuned],
    name: str,
) -> Any:
    """The content of a filter's file in a cell. Raises FileFault as :func:`gather`.

    Args:
        study: the study.
        cell: the cell.
        needed: variables that the file must have.
        read: reads what was tuned.
        name: the filter.
    """
    path = study.results / cell.estimate(name)
    data = read_estimate(path, *needed)
    _check_made_for(study, cell, name, tuned_in(study, name, cell, read), data, path)
    return data


def _load_if_there(
    study: Study,
    cell: Cell,
    needed: Collection[str],
    read: Callable[[str, str, Path], Tuned],
    name: str,
) -> Any | None:
    """As :func:`_load`; None where a file of the run is missing, or is of other settings."""
    tuned = study.tuning_path(name, cell)
    files = [cell.truth, cell.estimate(name), cell.cost(name), *([] if tuned is None else [tuned])]
    if not all((study.results / path).is_file() for path in files):
        return None
    try:
        return _load(study, cell, needed, read, name)
    except OtherSettings:
        return None


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows as a table. A column of gaps has one type: text, where some are patterns."""
    table = pd.DataFrame(rows)
    if any(isinstance(gap, str) for gap in table["gap"]):
        table["gap"] = table["gap"].astype(str)
    return table


def _check_made_for(
    study: Study, cell: Cell, name: str, tuned: Tuned | None, data: Any, path: Path
) -> None:
    """Raises OtherSettings unless an estimate was made of this cell, by this filter, with the
    study's parameters.

    Args:
        study: the study.
        cell: where the estimate lies.
        name: the filter.
        tuned: what tuning found for it there, if it is tuned.
        data: the content of {filter}.nc.
        path: that file.
    """
    if data.attrs["settings"] != cell.settings.to_json() or data.attrs["filter"] != name:
        raise OtherSettings(
            path,
            "was made with other settings than the study's",
            "remove it and run the workflow again",
        )
    expected, expected_source = in_force(
        study.default_parameters(name, cell), tuned, study.config.pinned.get(name)
    )
    if json.loads(data.attrs["filter_parameters"]) != json.loads(json.dumps(expected)):
        raise OtherSettings(
            path, "was made with other filter parameters than the study's", "run the workflow again"
        )
    read = json.loads(data.attrs.get("parameter_files", "{}"))
    for key, file in study.files_among(name, expected).items():
        # Results are aggregated where the file is not, too.
        if file.is_file() and read.get(key) != content(file):
            fault = f"was made with another content of {key} = {str(file)!r} than is there now"
            raise OtherSettings(path, fault, "run the workflow again")
    source = ParameterSource.model_validate_json(data.attrs["parameter_source"])
    if source != expected_source:
        said, wanted = source_in_words(source), source_in_words(expected_source)
        fault = f"says that its parameters are {said!r}, and the study's are {wanted!r}"
        raise OtherSettings(path, fault, "run the workflow again")


def _check_one_version(versions: Mapping[tuple[str, str], Mapping[str, Path]]) -> None:
    """Raises ConfigFault where a filter's results on a system, (filter, system), have several
    versions of code.
    """
    for (name, system), found in versions.items():
        if len(found) > 1:
            listed = ", ".join(f"{version} ({path})" for version, path in sorted(found.items()))
            raise ConfigFault(
                f"results of filter {name!r} on {system!r} come from different versions of its "
                f"code: {listed}; "
                "run the workflow again, or set accept_mixed_versions: true"
            )


def _error_without_measurements(study: Study, cell: Cell, free_run: Any) -> float:
    """How far off one is in a cell that measures nothing, see masf.scores.tracking.

    Args:
        study: the study.
        cell: the cell.
        free_run: the content of its free run's file, None if it has none.
    """
    if free_run is None or free_run.attrs["diverged"]:
        return climatological_spread(read_states(study.results / cell.truth, cell.settings))
    found = averages(free_run, gap=cell.settings.gap, spin_up_cycles=cell.spin_up_cycles)
    return found["rmse"]


def _reference(cell: Cell, data: Any) -> Reference | None:
    """What distances are measured to in this cell, whose reference's file holds ``data``; None
    without one, or if it diverged.
    """
    if data is None or data.attrs["diverged"]:
        return None
    return Reference.of(data, cell.settings.gap, cell.spin_up_cycles)


def run_keys(cell: Cell, name: str) -> dict[str, Any]:
    """What tells a filter's run in a cell from others: the first columns of scores and costs."""
    s = cell.settings
    return {
        "cell": cell.path,
        "system": s.system,
        **{f"parameter_{k}": float(v) for k, v in s.parameters.items()},
        "observation": cell.observation_name,
        "gap": s.gap,
        "seed": s.seed,
        "members": s.members,
        "filter": name,
        **({"model": cell.model_in_words} if s.model else {}),
    }


def _cost(path: Path) -> dict[str, Any]:
    cost = read_cost(path)

    def mean(values: list[float | None]) -> float:
        # The first cycle pays for warm-up.
        finite = [v for v in values if v is not None]
        return float(np.mean(finite[1:] or finite)) if finite else float("nan")

    return {
        "seconds_per_cycle": mean(cost["wall_seconds"]),
        "cpu_seconds_per_cycle": mean(cost["cpu_seconds"]),
        "model_runs_per_cycle": mean_model_runs(cost["model_runs"]),
        "peak_memory_mib": float(cost["peak_memory_mib"]),
        "device": cost.get("device", ""),
        "threads": cost.get("threads", 0),
    }


def aggregate(
    study: Study, *, scores: Path, costs: Path, tables: Path, allow_missing: bool = False
) -> int:
    """Gathers the results of a study into scores.parquet, costs.parquet, both also as CSV, and the
    folder of tables.

    Args:
        study: the study.
        scores: scores.parquet.
        costs: costs.parquet.
        tables: the folder of tables.
        allow_missing: whether tables are made though some runs are not there, which they count.

    Returns:
        How many runs are missing.

    Raises:
        FileFault: for a result that is missing, damaged, or of another cell than its place says.
        ConfigFault: where different versions of a filter's code made the results, or nothing is
            there yet.
    """
    score_rows, cost_rows = gather(study, allow_missing=allow_missing)
    missing = int(lacking(score_rows).sum())
    if missing == len(score_rows):
        raise ConfigFault(f"{study.results}: no run of the study is done yet: nothing to be shown")
    write_tables(study, score_rows, cost_rows, scores_path=scores, costs_path=costs, folder=tables)
    return missing
