"""The config of a study.

The classes here, in masf.study.figures and in masf.study.filter_files are the one definition of the
config; ``workflow/schemas/*.schema.json`` is written from them (``masf schema``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from masf import places
from masf.diffusion.prior_settings import PriorSettings
from masf.files.cell import Model
from masf.observations.settings import AnyObservation
from masf.study.figures.kinds import Figure
from masf.study.literature import SettingRuns
from masf.study.search import TunableScore
from masf.study.sections import (
    Axis,
    Distinct,
    Folder,
    Gap,
    Name,
    Saved,
    SavedSteps,
    Section,
    Seed,
    Size,
)


class Seeds(Section):
    """Seeds of the truths; training of priors has a stream of its own."""

    test: Distinct[Seed] = Field(
        min_length=1, description="Seeds that tables and figures report on."
    )
    tuning: Distinct[Seed] = Field(
        default_factory=list, description="Seeds that filters are tuned on."
    )
    training: Seed = Field(0, description="Seed of stage train-prior.")
    together: bool = Field(
        False,
        description="Whether one job has all test seeds of a situation, one after another: for "
        "runs that are shorter than the start of a process.",
    )

    @model_validator(mode="after")
    def _disjoint(self) -> Seeds:
        if shared := set(self.test) & set(self.tuning):
            raise ValueError(
                f"seeds {sorted(shared)} are in both test and tuning: tuning seeds must not be "
                "tested on"
            )
        return self


class ModelOfFilters(Section):
    """What filters forecast with, where it is not what makes the truth."""

    system: Name | None = Field(
        None, description="Another system, for what the truth's resolves; the truth's without this."
    )
    parameters: dict[str, float | int] = Field(
        default_factory=dict,
        description="Of the model: of the truth's system, those that differ; of another one, all "
        "but dt, which is the truth's.",
    )


class Experiment(Section):
    """Cells that belong together: every combination of parameters, observations, gaps and ensemble
    sizes, on every test seed.
    """

    title: str = Field(min_length=1, description="One line for tables and reports.")
    system: Name = Field(description="A system in masf/systems.")
    parameters: dict[str, float | int | Axis] = Field(
        description="The system's parameters; a list is an axis of the experiment."
    )
    model: ModelOfFilters | None = Field(
        None,
        description="What filters forecast with, where it is not what makes the truth: model "
        "error.",
    )
    observations: Distinct[Name] = Field(
        min_length=1, description="Names from the section observations."
    )
    gaps: Distinct[Gap] = Field(
        min_length=1,
        description="Steps between two measurements; a list "
        "among them, such as [5, 10, 20], is a pattern of steps that repeats.",
    )
    members: Size | Annotated[Distinct[Size], Field(min_length=1)] = Field(
        description="Ensemble size N; a list is an axis of the experiment."
    )
    seeds: Distinct[Seed] | None = Field(
        None, min_length=1, description="Those of the test seeds that it runs on; all without this."
    )
    initial_spread: float = Field(
        1.0, gt=0, description="Standard deviation of the initial distribution."
    )
    cycles: int = Field(ge=1, le=1_000_000, description="Measurements in a run.")
    spin_up_cycles: int = Field(0, ge=0, description="First cycles that the scores leave out.")
    reference: Name | None = Field(
        None, description="The filter whose posterior the others' distance is measured to."
    )
    saved_members: Saved | None = Field(
        None, description="Analysis members kept in each filter's file, instead of the study's."
    )
    saved_steps: SavedSteps | None = Field(
        None, description="At how many steps means and spreads are kept, instead of the study's."
    )
    add_filters: Distinct[Name] = Field(
        default_factory=list, description="Filters for this experiment besides the study's."
    )
    leave_out_filters: Distinct[Name] = Field(
        default_factory=list, description="Filters of the study that this experiment does not run."
    )

    @model_validator(mode="after")
    def _some_cycles_left(self) -> Experiment:
        if self.spin_up_cycles >= self.cycles:
            raise ValueError(
                f"spin_up_cycles {self.spin_up_cycles} leaves none of {self.cycles} cycles to score"
            )
        return self

    def filters_of(self, listed: Iterable[str]) -> list[str]:
        """The filters that it runs, where the study lists these; in the study's order."""
        kept = [name for name in listed if name not in self.leave_out_filters]
        return list(dict.fromkeys([*kept, *self.add_filters]))

    def model_for(self, parameters: dict[str, Any]) -> Model | None:
        """What filters forecast with where the truth has these parameters; None for the truth's own
        system.
        """
        said = self.model
        if said is None:
            return None
        if said.system in (None, self.system):
            merged = dict(sorted({**parameters, **said.parameters}.items()))
            return None if merged == parameters else Model(self.system, merged)
        common = {"dt": parameters["dt"]} if "dt" in parameters else {}
        return Model(str(said.system), dict(sorted({**common, **said.parameters}.items())))

    @property
    def sizes(self) -> list[int]:
        """The ensemble sizes."""
        return self.members if isinstance(self.members, list) else [self.members]

    @property
    def axes(self) -> dict[str, list[Any]]:
        """The values of the system's parameters, gap and members."""
        parameters = {
            name: value if isinstance(value, list) else [value]
            for name, value in self.parameters.items()
        }
        return {**parameters, "gap": self.gaps, "members": self.sizes}

    @property
    def varied(self) -> list[str]:
        """The axes with more than one value."""
        return [name for name, values in self.axes.items() if len(values) > 1]


class TuningPoints(Section):
    """Situations of one experiment."""

    experiment: Name = Field(description="One of the experiments.")
    when: dict[str, Any] = Field(
        default_factory=dict,
        description="Conditions as those of settings; all situations of the experiment "
        "without them.",
    )


class Tuning(Section):
    """How filters are tuned, on tuning seeds. Each filter with a search gets the same number of
    trials at each point.
    """

    trials: int = Field(
        ge=1, le=10_000, description="Trials of each filter at each point, the default first."
    )
    score: TunableScore = Field(
        "rmse", description="What is made small: the mean over tuning seeds."
    )
    cycles: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Measurements in a run; as in the experiment without this.",
    )
    spin_up_cycles: int | None = Field(
        None,
        ge=0,
        description="First cycles that the score leaves out; as in the experiment without this.",
    )
    points: Distinct[TuningPoints] | None = Field(
        None,
        min_length=1,
        description="Where filters are tuned; in every situation of every experiment without this.",
    )
    runtime: int = Field(
        720,
        ge=1,
        description="Minutes that one tuning job asks for; cut off, it goes on where it was.",
    )


class PriorOfStudy(PriorSettings):
    """How the priors of a system are trained in a study."""

    # A default is not checked: an empty list that is written is refused.
    gaps: list[int] = Field(
        [],
        min_length=1,
        description="Measurement gaps, in steps, that the training cycles take in turn; without "
        "this, those of the cells that a prior serves.",
    )


class StudyConfig(Section):
    """The whole config."""

    results: Annotated[str, AfterValidator(places.folder_of_results)] = Field(
        min_length=1,
        description="Folder of all outputs, relative to the working directory; `~`, `$VAR` and "
        "`${VAR}` are filled in.",
    )
    filters_directory: Folder = Field(
        "config/filters", description="Folder of the filters' files NAME.yaml."
    )
    tuned_directory: Folder | None = Field(
        None,
        description="Folder of the files NAME.yaml of tuned values; without it, `tuned` beside "
        "the filters' folder.",
    )
    gpu: bool = Field(False, description="Whether jobs that can use a GPU ask for one.")
    container: str | None = Field(
        None,
        min_length=1,
        description="Image that jobs run in, with `--software-deployment-method apptainer`.",
    )
    accept_mixed_versions: bool = Field(
        False, description="Aggregate results that different versions of a filter's code made."
    )
    saved_members: Saved = Field(3, description="Analysis members kept in each filter's file.")
    saved_steps: SavedSteps = Field(
        1,
        description="Means and spreads in each filter's file are kept at every so many model steps "
        "and at all analyses; 0 keeps those of analyses alone. Scores are of the whole run.",
    )
    seeds: Seeds = Field(description="Seeds.")
    filters: Distinct[Name] = Field(
        min_length=1, description="Filters of the study, in the order of tables and legends."
    )
    pinned: dict[Name, dict[str, Any]] = Field(
        default_factory=dict,
        description="Parameters, by filter, that override those of its file, and tuned ones, "
        "everywhere.",
    )
    observations: dict[Name, AnyObservation] = Field(
        min_length=1, description="What is measured, by name."
    )
    priors: dict[Name, PriorOfStudy] = Field(
        default_factory=dict, description="How priors are trained, by system."
    )
    train_afresh: bool = Field(
        False,
        description="Train priors also where one that was trained so, with the same seed, is "
        "shipped with masf, and would be taken.",
    )
    experiments: dict[Name, Experiment] = Field(
        default_factory=dict,
        description="The experiments, by name; at least one, or section settings.",
    )
    settings: dict[Name, SettingRuns] = Field(
        default_factory=dict,
        description="Settings of the literature that are run as well, by the names that `masf "
        "list settings` lists.",
    )
    settings_directory: Folder | None = Field(
        None,
        description="Folder of the files NAME.yaml of these settings; without it, `settings` "
        "beside the filters' folder.",
    )
    tuning: Tuning | None = Field(
        None, description="How filters are tuned; without it, the values in their files stand."
    )
    compare_with: Literal["published"] | None = Field(
        None,
        description="published: scores that come with masf, of runs in the same cells, stand in "
        "tables, figures of scores and page beside the study's own, marked as shipped.",
    )
    figures: dict[Name, Figure] = Field(default_factory=dict, description="The figures, by name.")

    @model_validator(mode="after")
    def _something_runs(self) -> StudyConfig:
        if not self.experiments:
            raise ValueError("experiments: none is there; add one, or a section settings")
        return self

    @model_validator(mode="after")
    def _tuning_has_jobs_of_its_own(self) -> StudyConfig:
        if self.seeds.together and self.tuning is not None:
            raise ValueError(
                "seeds.together = True: it is of test seeds, and the section tuning needs jobs of "
                "single seeds; set it to false, or take tuning out"
            )
        return self
