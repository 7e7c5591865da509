"""A study of settings of the literature: section ``settings`` of a config, written out as the
experiments, observations and filters that it stands for.

Each run of a setting is a filter of its own, with the source's parameters pinned: the same filter
may have several sets of parameters in one setting. Experiments are one for each ensemble size of
these runs, and one for the study's own filters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, ValidationError

from masf.study.messages import ConfigFault, faults_of, unknown
from masf.study.published import PublishedRun, PublishedSetting
from masf.study.sections import Distinct, Name, Section, Seed

PUBLISHED = "published"
"""The table of a study of settings: its scores beside those that are published."""

LONGEST_LABEL = 32
"""Characters of a filter's label, see masf.study.filter_files."""


class Runs(Section):
    """Seeds and lengths of runs in a setting of the literature."""

    cycles: int | None = Field(
        None, ge=1, le=1_000_000, description="Measurements in a run, instead of the setting's."
    )
    spin_up_cycles: int | None = Field(
        None, ge=0, description="First cycles that the scores leave out, instead of the setting's."
    )
    seeds: Distinct[Seed] | None = Field(
        None, min_length=1, description="Those of the test seeds that are run; all without this."
    )


class SettingRuns(Runs):
    """How a study runs a setting of the literature."""

    beside: Runs = Field(
        default_factory=Runs,
        description="The same for the study's own filters, where they run otherwise; with other "
        "cycles they need seeds of their own.",
    )
    leave_out_filters: Distinct[Name] = Field(
        default_factory=list, description="Filters of the study that do not run there."
    )


@dataclass(frozen=True)
class Variant:
    """A filter of the study that is another filter with the parameters of a source."""

    filter: str
    label: str
    """What tells it from others of the same filter."""


@dataclass(frozen=True)
class Expansion:
    """A config with its section ``settings`` written out."""

    content: dict[str, Any]
    variants: dict[str, Variant]
    """What filters are that have no file, by name."""


def variant_name(setting: str, runs: list[PublishedRun], run: PublishedRun) -> str:
    """What a study calls the filter of a run, such as ``hoteit2015_letkf_n10_2``."""
    alike = [other for other in runs if (other.filter, other.members) == (run.filter, run.members)]
    number = f"_{alike.index(run) + 1}" if len(alike) > 1 else ""
    return f"{setting}_{run.filter}_n{run.members}{number}"


def expanded(
    content: Mapping[str, Any], known: Mapping[str, PublishedSetting], source: str
) -> Expansion:
    """A config with the experiments, observations and filters that its section ``settings`` stands
    for. The section stays, so that tables know of it.

    Args:
        content: the config, as it was read.
        known: the settings that there are, those that the section names.
        source: how messages name the config.

    Raises:
        ConfigFault: for a setting that there is none of, for keys of the section that are wrong,
            and for names that the config has already.
    """
    section = content.get("settings")
    if not isinstance(section, Mapping):
        raise ConfigFault(
            f"{source}: settings = {section!r}: expected a mapping of names of settings, such as "
            "{sakov2008: {}}"
        )
    written = {
        key: dict(content.get(key) or {}) for key in ("experiments", "observations", "pinned")
    }
    variants: dict[str, Variant] = {}
    own = list(content.get("filters") or [])
    faults: list[str] = []
    if PUBLISHED in written["experiments"]:
        faults.append(f"experiments.{PUBLISHED}: the name is taken by the table of settings")
    for name, said in section.items():
        if name not in known:
            faults.append(unknown("settings", str(name), "setting", known))
            continue
        try:
            chosen = SettingRuns.model_validate(said or {})
        except ValidationError as error:
            faults += [f"settings.{name}.{line}" for line in faults_of(error, SettingRuns, said)]
            continue
        setting = known[name]
        observed = _observation(name, setting, written["observations"])
        written["observations"].setdefault(observed, setting.observation.written())
        for key, experiment, of_experiment in _experiments(name, setting, chosen, observed, own):
            if key in written["experiments"]:
                faults.append(f"experiments.{key}: the name is taken by setting {name!r}")
            written["experiments"][key] = experiment
            variants |= of_experiment
        written["pinned"] |= {
            variant_name(name, setting.runs, run): run.parameters
            for run in setting.runs
            if run.filter is not None
        }
    if faults:
        raise ConfigFault("\n".join(f"{source}: {fault}" for fault in faults))
    return Expansion({**content, **written}, variants)


def _observation(name: str, setting: PublishedSetting, observations: Mapping[str, Any]) -> str:
    """What the study calls the setting's observation: as the config does where it has it, because
    conditions in filters' files go by that name; else as the setting.
    """
    written = setting.observation.written()
    return next((key for key, said in observations.items() if said == written), name)


def _experiments(
    name: str,
    setting: PublishedSetting,
    chosen: SettingRuns,
    observed: str,
    own: list[str],
) -> list[tuple[str, dict[str, Any], dict[str, Variant]]]:
    """The experiments of a setting, by name, and the variants that each runs: that of the study's
    own filters, and one for each ensemble size of the setting's runs.
    """
    common = {
        "system": setting.system,
        "parameters": dict(setting.parameters),
        "observations": [observed],
        "gaps": [setting.gap],
        "initial_spread": setting.initial_spread,
        "saved_members": 0,
    }
    found: list[tuple[str, dict[str, Any], dict[str, Variant]]] = []
    if set(own) - set(chosen.leave_out_filters):
        beside = chosen.model_dump(include=set(Runs.model_fields)) | chosen.beside.model_dump(
            exclude_unset=True
        )
        of_study = (
            common
            | _length(setting, Runs(**beside))
            | {
                "title": setting.title,
                "members": setting.members,
                "leave_out_filters": list(chosen.leave_out_filters),
            }
        )
        found.append((name, of_study, {}))
    ours = [run for run in setting.runs if run.filter is not None]
    for members in sorted({run.members for run in ours}):
        runs = [run for run in ours if run.members == members]
        variants = {
            variant_name(name, setting.runs, run): Variant(str(run.filter), f"{name} {members}")
            for run in runs
        }
        experiment = (
            common
            | _length(setting, chosen)
            | {
                "title": f"{setting.title}; N {members}",
                "members": members,
                "leave_out_filters": own,
                "add_filters": list(variants),
            }
        )
        found.append((f"{name}_n{members}", experiment, variants))
    return found


def _length(setting: PublishedSetting, runs: Runs) -> dict[str, Any]:
    """Keys of an experiment that say how long its runs are, and on which seeds."""
    cycles = runs.cycles or setting.cycles
    # As for masf run --setting: a short run still has something to score.
    spin_up = min(setting.spin_up_cycles, cycles // 2)
    return {
        "cycles": cycles,
        "spin_up_cycles": spin_up if runs.spin_up_cycles is None else runs.spin_up_cycles,
        **({} if runs.seeds is None else {"seeds": runs.seeds}),
    }


def labels(variants: Mapping[str, Variant], of_filters: Mapping[str, str]) -> dict[str, str]:
    """A label for each variant, unlike all others.

    Args:
        variants: by name.
        of_filters: labels of the filters that they are.
    """
    found: dict[str, str] = {}
    for name, variant in variants.items():
        label = wanted = f"{of_filters[variant.filter]} {variant.label}"[:LONGEST_LABEL].rstrip()
        number = 2
        while label in found.values():
            label = f"{wanted[: LONGEST_LABEL - 4]} ({number})"
            number += 1
        found[name] = label
    return found
