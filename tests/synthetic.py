"""Results whose scores are known: estimates that miss the truth by a given amount in every
component.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from masf.files.cost import write_cost
from masf.files.estimate import write_estimate
from masf.files.parameters import in_force
from masf.files.trajectory import Trajectory
from masf.files.truth import write_truth
from masf.report.rows import tuned_in
from masf.stages.simulate import simulate
from masf.study.load import make_study, study_with
from masf.study.study import Study
from masf.systems.registry import make_system

ROOT = Path(__file__).parent.parent
SPIN_UP_ERROR = 100.0
LOST_ERROR = 80.0
"""Farther off than a free run on any of four seeds."""


def small_study(
    results: Path, *, definitions: Mapping[str, dict[str, Any]] | None = None, **changes: Any
) -> Study:
    """Lorenz-63 at gaps 2 and 3, its gap 2 alone once more, on two seeds, with filters enkf,
    free_run and particle.
    """
    common = {
        "system": "lorenz63", "parameters": {"dt": 0.01}, "observations": ["every_one"],
        "members": 4, "cycles": 3, "spin_up_cycles": 1,
    }  # fmt: skip
    config: dict[str, Any] = {
        "results": str(results),
        "seeds": {"test": [0, 1]},
        "filters": ["particle", "enkf", "free_run"],
        "observations": {"every_one": {"operator": "identity", "noise": 1.0}},
        "experiments": {
            "gap_sweep": {
                "title": "Gaps, 100% of them",
                "gaps": [2, 3],
                "leave_out_filters": ["particle"],
                **common,
            },
            "one_gap": {"title": "One gap", "gaps": [2], **common},
        },
        "figures": {
            "sweep": {
                "kind": "sweep",
                "title": "Sweep",
                "panels": [{"experiment": "gap_sweep", "axis": "gap", "observation": "every_one"}],
            },
            "paths": {"kind": "trajectories", "title": "Paths", "experiment": "one_gap", "seed": 0},
            "ranks": {
                "kind": "rank_histograms",
                "title": "Ranks",
                "experiment": "one_gap",
                "observation": "every_one",
                "ensemble": "analysis",
            },
        },
    }
    if definitions is not None:
        return study_with(config | changes, definitions, {})
    return make_study(config | changes, root=ROOT)


def long_study(results: Path, seeds: int = 4, **changes: Any) -> Study:
    """The same on four seeds, and long enough for a run to lose track."""
    definitions = small_study(results).config.experiments
    experiments = {
        name: experiment.model_dump(exclude_defaults=True) | {"cycles": 8}
        for name, experiment in definitions.items()
    }
    return small_study(
        results, seeds={"test": list(range(seeds))}, experiments=experiments, **changes
    )


def exact_study(results: Path) -> Study:
    """The same, where gap 2 has filter enkf as the reference."""
    experiments = json.loads(small_study(results).config.model_dump_json(exclude_defaults=True))[
        "experiments"
    ]
    experiments["one_gap"] |= {"reference": "enkf"}
    return small_study(results, experiments=experiments)


def flow_study(results: Path, **changes: Any) -> Study:
    """A Kolmogorov flow at gaps 2 and 3 with filters enkf and free_run, and the figures of
    flows.
    """
    point = {"experiment": "flow", "observation": "every_fourth", "where": {"gap": 2}}
    config: dict[str, Any] = {
        "filters": ["enkf", "free_run"],
        "observations": {"every_fourth": {"operator": "grid", "stride": 4, "noise": 0.1}},
        "experiments": {
            "flow": {
                "title": "Flow",
                "system": "kolmogorov",
                "parameters": {"size": 16},
                "observations": ["every_fourth"],
                "gaps": [2, 3],
                "members": 4,
                "cycles": 3,
                "spin_up_cycles": 1,
                "initial_spread": 0.1,
            },
        },
        "figures": {
            "scores": {
                "kind": "sweep",
                "title": "Scores",
                "columns": 1,
                "panels": [
                    {
                        "experiment": "flow",
                        "axis": "gap",
                        "observation": "every_fourth",
                        "score": "ssim",
                    },
                    {**point, "axis": "time", "seed": 0},
                    {**point, "axis": "time", "seed": 1, "score": "csi"},
                ],
            },
            "fields": {
                **point,
                "kind": "vorticity",
                "title": "Fields",
                "seed": 0,
                "cycles": [1, 3],
            },
            "film": {**point, "kind": "animation", "title": "Film", "seed": 0, "cycles": 2},
            "spectra": {**point, "kind": "spectra", "title": "Spectra"},
        },
    }
    return small_study(results, **config | changes)


def error_of(name: str, gap: int, seed: int) -> float:
    """The error of each filter's estimate: 1 for the first seed and 3 for the second, and so on."""
    return {"enkf": 1.0, "free_run": 10.0, "particle": 0.5}[name] * (1 + 2 * seed) * (gap / 2)


def write_results(
    study: Study,
    *,
    diverged: Mapping[tuple[str, int, int], int] | None = None,
    versions: Mapping[tuple[str, int, int], str] | None = None,
    lost: Collection[tuple[str, int, int]] = (),
) -> None:
    """Writes all files of a study. ``diverged`` and ``versions`` are by (filter, gap, seed): the
    cycle, the code version; those that are ``lost`` are as far off as LOST_ERROR, with a spread of
    half of that.
    """
    for cell in study.cells.values():
        folder = Path(study.config.results) / cell.path
        s = cell.settings
        truth, system = simulate(s), make_system(s.system, s.parameters)
        write_truth(folder / "truth.nc", truth, system, "v1")
        for name in cell.filters:
            key = (name, s.gap, s.seed)
            error = LOST_ERROR if key in lost else error_of(*key)
            mean = truth.truth + np.float32(error)
            mean[: cell.spin_up_cycles * s.gap + 1] = truth.truth[0] + SPIN_UP_ERROR
            by_cycle = np.full(s.cycles, error, "f4")
            by_cycle[: cell.spin_up_cycles] = SPIN_UP_ERROR
            trajectory = Trajectory(
                mean=mean,
                spread=np.full_like(mean, 0.5 * error),
                forecast_mean=truth.truth[s.gap :: s.gap] + 2 * by_cycle[:, None],
                forecast_spread=np.repeat(by_cycle[:, None], mean.shape[1], axis=1),
                members=np.repeat(mean[None, s.gap :: s.gap], 2, axis=0),
                crps=by_cycle / 4,
                crps_forecast=by_cycle / 2,
                ranks=np.tile(np.arange(5, dtype="f4"), (s.cycles, 1)),
                ranks_forecast=np.ones((s.cycles, 5), "f4"),
                covariance=error**2 * np.repeat(np.eye(mean.shape[1])[None], s.cycles, axis=0)
                if cell.reference
                else None,
                diagnostics={"error": by_cycle},
                model_runs=np.full(s.cycles, 1.0 if name == "free_run" else s.members),
                wall_seconds=np.resize([9.0, 1.0, 3.0], s.cycles),
                cpu_seconds=np.resize([8.0, 0.5, 1.5], s.cycles),
                diverged_at=(diverged or {}).get(key),
            )
            pinned = study.config.pinned.get(name)
            parameters, source = in_force(
                study.default_parameters(name, cell), tuned_in(study, name, cell), pinned
            )
            attributes = {
                "filter": name,
                "filter_module": study.filter_module(name),
                "code_version": (versions or {}).get(key, "v1"),
                "filter_parameters": json.dumps(parameters),
                "parameter_source": source.model_dump_json(),
            }
            write_estimate(folder / f"{name}.nc", trajectory, truth, system, attributes)
            write_cost(
                folder / f"{name}.cost.json",
                trajectory,
                {"peak_memory_mib": 100.0 + s.seed, "device": "cpu", "threads": 1},
            )
