"""Files config/tuned/NAME.yaml: values of a filter's parameters that tuning found, and on what
evidence.

They are written by ``masf tuned-settings`` from what stage tune stored; config/filters/NAME.yaml
says what the filter is, and these values stand over those there. Among them, those with more
conditions stand over those with fewer, and later ones over earlier ones with as many.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from masf.files.tuned import Tuned
from masf.study.search import TunableScore
from masf.study.sections import Distinct, Section, Seed

HEADER = """\
# yaml-language-server: $schema=../../workflow/schemas/tuned.schema.json
# What tuning found for filter {name}. `masf tuned-settings` writes this file: see docs/tuning.md.
"""


class Found(Section):
    """Who found values of parameters, and in which runs."""

    by: Literal["masf tune", "hand"] = Field(description="Stage tune, or a person who tried some.")
    seeds: Distinct[Seed] = Field(
        min_length=1, description="Seeds of the runs; none of them a test seed."
    )
    cycles: int | None = Field(
        None, ge=1, description="Measurements in a run, where that was kept."
    )
    trials: int | None = Field(
        None, ge=1, description="Combinations that were tried, where that was kept."
    )
    at: dict[str, Any] = Field(
        default_factory=dict,
        description="Situation of the runs, where the values are taken for others, too.",
    )
    score: TunableScore | None = Field(None, description="What was made small.")
    value: float | None = Field(None, description="Its mean over the seeds with these values.")
    default_value: float | None = Field(
        None, description="That with the values before; none where a run diverged."
    )
    source: str | None = Field(None, description="File that has the scores.")
    note: str | None = Field(None, description="What else is to be known.")

    @model_validator(mode="after")
    def _tune_counts(self) -> Found:
        if self.by == "masf tune" and None in (self.trials, self.cycles):
            raise ValueError("what masf tune found needs trials and cycles")
        return self


class TunedSetting(Section):
    """Values for the situations in which conditions hold."""

    when: dict[str, Any] = Field(
        min_length=1, description="Conditions as those of settings in a filter's file."
    )
    parameters: dict[str, Any] = Field(min_length=1, description="The values.")
    found: Found = Field(description="Who found them, and in which runs.")


class TunedValues(Section):
    """A file config/tuned/NAME.yaml: what tuning found for what the study calls NAME."""

    settings: list[TunedSetting] = Field(
        description="Values by situation; those with more conditions win, and of as many the "
        "later ones."
    )

    def by_weight(self) -> list[TunedSetting]:
        """The settings, those that win last."""
        return sorted(self.settings, key=lambda setting: len(setting.when))


def from_search(found: Sequence[Tuned], when: Collection[str] = ()) -> dict[str, TunedValues]:
    """What stage tune found, by filter; each condition names what tells its point apart from the
    others of its system, or is asked for.

    Points at which every trial diverged have none. What the study pinned goes along with what was
    found, because that was found with it and need not be good without.

    Args:
        found: what stage tune stored, of one study.
        when: keys of a situation that are conditions even where all points have the same value.

    Raises:
        ValueError: for a key that no situation has.
    """
    values = {}
    known = {key for tuned in found for key in tuned.situation}
    if unknown := set(when) - known:
        raise ValueError(
            f"--when {', '.join(sorted(unknown))}: no key of a situation that was tuned; choose "
            f"among {', '.join(sorted(known))}"
        )
    for name in sorted({tuned.filter for tuned in found}):
        of_filter = [tuned for tuned in found if tuned.filter == name]
        settings = [
            _setting(tuned, of_filter, when)
            for tuned in of_filter
            if tuned.chosen_score is not None
        ]
        if settings:
            values[name] = TunedValues(settings=settings)
    return values


def _setting(tuned: Tuned, others: Iterable[Tuned], asked: Collection[str]) -> TunedSetting:
    system = tuned.situation["system"]
    situations = [other.situation for other in others if other.situation["system"] == system]
    telling = {
        k: v
        for k, v in tuned.situation.items()
        if k in asked or any(s.get(k) != v for s in situations)
    }
    when = {"system": system, **telling}
    return TunedSetting(
        when=when,
        parameters={**tuned.chosen, **tuned.pinned},
        found=Found(
            by="masf tune",
            seeds=tuned.seeds,
            cycles=tuned.cycles,
            trials=tuned.trials,
            at={k: v for k, v in tuned.situation.items() if k not in when},
            score=tuned.score,
            value=tuned.chosen_score,
            default_value=tuned.default_score,
            note=f"pinned: {', '.join(tuned.pinned)}" if tuned.pinned else None,
        ),
    )


def merged(old: TunedValues, new: TunedValues) -> TunedValues:
    """Both; a new setting takes the place of an old one with the same conditions.

    Raises:
        ValueError: where that was found in another situation, for which it would be lost.
    """
    replaced = {_key(setting.when): setting for setting in new.settings}
    for setting in old.settings:
        if (other := replaced.get(_key(setting.when))) is None:
            continue
        was, now = setting.found.at, other.found.at
        differ = sorted(key for key in was.keys() & now.keys() if was[key] != now[key])
        if differ:
            raise ValueError(
                f"has values for {setting.when} that were found elsewhere, at "
                f"{', '.join(f'{key} {was[key]!r} and not {now[key]!r}' for key in differ)}: say "
                f"{' '.join(f'--when {key}' for key in differ)}, or as many of these as tell the "
                "two apart; or take the old ones out of the file"
            )
    kept = [setting for setting in old.settings if _key(setting.when) not in replaced]
    return TunedValues(settings=[*kept, *new.settings])


def _key(when: dict[str, Any]) -> str:
    return repr(sorted(when.items()))


def file_text(name: str, values: TunedValues) -> str:
    """The content of config/tuned/NAME.yaml."""
    return HEADER.format(name=name) + to_yaml(values)


def to_yaml(values: TunedValues) -> str:
    """The settings as a file holds them, one key a line."""
    lines = ["settings:"]
    for setting in values.settings:
        content = setting.model_dump(exclude_defaults=True)
        for mark, key in zip("-  ", ("when", "parameters", "found"), strict=True):
            flow = yaml.safe_dump(content[key], default_flow_style=True, sort_keys=False, width=100)
            lines.append(f"{mark} {key}: {flow.strip().replace(chr(10), chr(10) + '    ')}")
    return "\n".join(lines) + "\n"
