"""The result of a study in a few sentences: who wins where, by how much, and what is not
distinguishable.

A *situation* is a point of an experiment. Filters are compared there by RMSE, paired by seed
(masf.scores.comparison). An experiment's reference is left out of the contest: it is exact, or
nearly so, and cannot lose.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from masf.report.rows import axes, experiment_rows
from masf.report.words import number_or_text
from masf.scores.comparison import (
    CONFIDENCE,
    INDISTINGUISHABLE,
    LEAST_SEEDS,
    compare,
    lacking,
)
from masf.study.cells import Cell
from masf.study.study import Study

SCORE = "rmse"
MOST_NAMED = 3
"""Larger groups of filters that are level are counted, and not named."""


@dataclass(frozen=True)
class Verdict:
    """Who wins in one situation; filters are given by their labels."""

    experiment: str
    system: str
    situation: str
    filters: tuple[str, ...]
    seeds: int
    best: str
    """"" if every filter diverged or lost track on some seed."""
    mean: float
    """The best filter's mean RMSE over seeds."""
    next: str
    """The filter with the second lowest mean; "" if there is none."""
    difference: float
    """Its RMSE minus the best one's, paired by seed, with its confidence interval from ``low`` to
    ``high``.
    """
    low: float
    high: float
    alike: tuple[str, ...]
    """Filters that are not distinguishable from the best."""
    diverged: tuple[str, ...]
    """Filters that diverged on some seed; so ``lost``, of those that lost track, and ``missing``,
    of those that have no result yet.
    """
    lost: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def margin(self) -> float:
        """How far the best filter's RMSE is below that of the next, as a share of the latter."""
        return self.difference / (self.mean + self.difference)

    @property
    def clear(self) -> bool:
        """Whether all filters that went through, and there are others, are distinguishable from the
        best.
        """
        return bool(self.next) and self.judged and not self.alike

    @property
    def judged(self) -> bool:
        """Whether there are seeds enough to say which filters differ."""
        return self.seeds >= LEAST_SEEDS


def verdicts(study: Study, scores: pd.DataFrame) -> list[Verdict]:
    """Who wins in each situation of each experiment, among its own filters.

    Args:
        study: the study.
        scores: the content of scores.parquet.
    """
    found = []
    for name, experiment in study.config.experiments.items():
        heads = axes(study, name)
        rows = experiment_rows(study, name, scores)
        rows = rows[rows["filter"] != experiment.reference]
        if rows.empty:
            continue
        points = rows.groupby(list(heads), observed=True, sort=True) if heads else [((), rows)]
        for values, point in points:
            situation = ", ".join(
                _words(head, value) for head, value in zip(heads.values(), values, strict=True)
            )
            found.append(_verdict(study, name, situation, point))
    return found


def contests(study: Study, scores: pd.DataFrame) -> list[Verdict]:
    """Who wins in each situation of the study, each once, though several experiments have it.

    What filters these run meet there, on the seeds that all of them ran. Where there is no such
    seed, each experiment's filters meet among themselves.

    Args:
        study: the study.
        scores: the content of scores.parquet.
    """
    situations: dict[str, list[Cell]] = defaultdict(list)
    for cell in study.cells.values():
        situations[cell.point].append(cell)
    found = []
    for cells in situations.values():
        rows = scores[scores["cell"].isin([cell.path for cell in cells])]
        meet = {name for cell in cells for name in cell.filters}
        meet |= {name for cell in cells for name in study.shipped.get(cell.path, {})}
        rows = rows[rows["filter"].isin(meet - {cell.reference for cell in cells})]
        rows = rows.assign(filter=pd.Categorical(rows["filter"], study.with_scores, ordered=True))
        names = dict.fromkeys(name for cell in cells for name in cell.experiments)
        ran = [set(own["seed"]) for _, own in rows.groupby("filter", observed=True)]
        if common := set.intersection(*ran) if ran else set():
            found.append(_verdict(study, next(iter(names)), "", rows[rows["seed"].isin(common)]))
            continue
        for name in names:
            experiment = study.config.experiments[name]
            filters, seeds = study.shown_filters(name), study.seeds(experiment)
            own = rows[rows["filter"].isin(filters) & rows["seed"].isin(seeds)]
            if len(own):
                found.append(_verdict(study, name, "", own))
    return found


def _words(head: str, value: Any) -> str:
    if head == "observed":
        return f"{value.replace('_', ' ')} observed"
    return f"{head} {number_or_text(value)}"


def _verdict(study: Study, name: str, situation: str, point: pd.DataFrame) -> Verdict:
    table = compare(point, [], study.free_runs)
    table = table[table["score"] == SCORE].assign(
        label=[study.filters[f].label for f in table.loc[table["score"] == SCORE, "filter"]]
    )
    absent = table["missing"] > 0 if "missing" in table else pd.Series(False, index=table.index)
    whole = (table["diverged"] == 0) & (table["lost"] == 0) & ~absent
    finished = table[whole].sort_values("mean", kind="stable")
    name_of_best = "" if table.empty else table["best"].iloc[0]
    best = finished[finished["filter"] == name_of_best].iloc[0] if name_of_best else None
    others = finished[finished["filter"] != name_of_best]
    other = others.iloc[0] if best is not None and len(others) else None
    nan = float("nan")
    return Verdict(
        experiment=name,
        system=study.config.experiments[name].system,
        situation=situation,
        filters=tuple(table["label"]),
        seeds=int(point["seed"].nunique()),
        best="" if best is None else best["label"],
        mean=nan if best is None else float(best["mean"]),
        next="" if other is None else other["label"],
        difference=nan if other is None else float(other["difference"]),
        low=nan if other is None else float(other["low"]),
        high=nan if other is None else float(other["high"]),
        alike=tuple(finished.loc[finished["verdict"] == INDISTINGUISHABLE, "label"]),
        diverged=tuple(table.loc[table["diverged"] > 0, "label"]),
        lost=tuple(table.loc[table["lost"] > 0, "label"]),
        missing=tuple(table.loc[absent, "label"]),
    )


def sentences(study: Study, scores: pd.DataFrame) -> list[str]:
    """The headline.

    Args:
        study: the study.
        scores: the content of scores.parquet.
    """
    once = contests(study, scores)
    judged = [v for v in once if v.judged]
    missing = int(lacking(scores).sum())
    said = [f"Not all is there: {missing} of {len(scores)} runs are missing."] if missing else []
    if judged:
        said.append(_clear_wins(judged))
    for system in dict.fromkeys(v.system for v in once):
        said.append(_lowest(system, [v for v in once if v.system == system]))
    if len(judged) < len(once):
        few = [v for v in once if not v.judged]
        said.append(
            f"Too few seeds to judge whether filters differ in {len(few)} of {_situations(once)}: "
            f"{_span(v.seeds for v in few)}, where {LEAST_SEEDS} are needed."
        )
    close = [v for v in judged if v.alike]
    if close:
        said.append(
            f"Not decided in {len(close)} of {len(judged)}: there the best is not distinguishable "
            "from at least one other filter, "
            f"because the {CONFIDENCE:.0%} confidence interval of their difference, paired over "
            f"{_span(v.seeds for v in judged)}, holds 0. Level there, and ahead of all others: "
            f"{_level(close)}."
        )
    for how, counted in (
        ("Diverged", Counter(label for v in once for label in v.diverged)),
        ("Lost track", Counter(label for v in once for label in v.lost)),
        ("Missing", Counter(label for v in once for label in v.missing)),
    ):
        if counted:
            listed = ", ".join(f"{label} in {n}" for label, n in counted.most_common())
            said.append(f"{how} on some seed, in {_situations(once)}: {listed}.")
    references = {
        e.reference: None for e in study.config.experiments.values() if e.reference is not None
    }
    if references:
        labels = " and ".join(study.filters[name].label for name in references)
        said.append(f"Not counted where they are the reference, exact or nearly so: {labels}.")
    return said


def reason(found: Iterable[Verdict]) -> str:
    """Why no filter is the best in some situations, as what each of them did there."""
    absent = any(v.missing for v in found)
    return "diverged, lost track or is missing" if absent else "diverged or lost track"


def _span(seeds: Iterable[int]) -> str:
    low, *_, high = sorted([*seeds] * 2)
    number = f"{low}" if low == high else f"{low} to {high}"
    return f"{number} seed{'s' if high > 1 else ''}"


def _situations(found: list[Verdict]) -> str:
    return f"{len(found)} situation{'s' if len(found) > 1 else ''}"


def _clear_wins(once: list[Verdict]) -> str:
    clear = [v for v in once if v.clear]
    if not clear:
        return f"In none of {_situations(once)} is a filter ahead of every other one beyond chance."
    won = []
    for label, count in Counter(v.best for v in clear).most_common():
        own = [v for v in clear if v.best == label]
        won.append(
            f"{label} in {count} ({', '.join(dict.fromkeys(v.system for v in own))}){_margins(own)}"
        )
    return (
        f"Ahead of every other filter beyond chance in {len(clear)} of {_situations(once)}: "
        f"{'; '.join(won)}."
    )


def _level(close: list[Verdict]) -> str:
    """The groups of filters that are not told apart, and in how many situations each leads."""
    groups = Counter(tuple(sorted((v.best, *v.alike))) for v in close)
    return "; ".join(
        f"{' and '.join(group) if len(group) <= MOST_NAMED else f'{len(group)} filters'} in {n}"
        for group, n in groups.most_common()
    )


def _lowest(system: str, found: list[Verdict]) -> str:
    wins = Counter(v.best for v in found if v.best).most_common()
    if not wins:
        return f"On {system}, every filter {reason(found)} on some seed."
    if len(found) == 1:
        return f"On {system}, lowest RMSE: {wins[0][0]}{_margins(found)}."
    listed = ", ".join(f"{label} in {n}" for label, n in wins)
    return f"On {system}, lowest RMSE in {_situations(found)}: {listed}{_margins(found)}."


def _margins(won: list[Verdict]) -> str:
    """How far the next filter is behind, over some situations."""
    shares = sorted(v.margin for v in won if v.next)
    if not shares:
        return ""
    low, high = f"{shares[0]:.0%}", f"{shares[-1]:.0%}"
    return f", {low if low == high else f'{low} to {high}'} below the next"
