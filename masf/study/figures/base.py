"""What every kind of figure has.

A kind of figure is

- a subclass of :class:`FigureSection` in a module of this package: its settings, the files that it
  reads, what may be wrong with it, and what its caption says;
- a function in masf.report.figures that draws it;
- its line in the union of masf.study.figures.kinds, and in the table of masf.report.figures.kinds.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PrivateAttr

from masf.study.figures.style import Style
from masf.study.messages import unknown
from masf.study.sections import Distinct, Name, Section
from masf.systems.base import System
from masf.systems.registry import system_class, system_names

if TYPE_CHECKING:
    from masf.study.cells import Cell
    from masf.study.study import Study


Part = Literal["whole", "best", "others", "relative"]
"""Which filters of a figure of the config are drawn, or that they are drawn over another one."""


class FigureSection(Section):
    """What figures of all kinds have."""

    title: str = Field(min_length=1, description="Caption's first words.")
    filters: Distinct[Name] | None = Field(
        None,
        min_length=1,
        description="Which filters of the experiment are shown, in the study's order; all "
        "without this.",
    )
    style: Style = Field(
        default_factory=Style, description="How it looks, for the page of a journal."
    )
    kind: str

    _part: Part = PrivateAttr("whole")

    shows: ClassVar[str]
    """What figures of this kind show, and how to read them."""
    reads_truth: ClassVar[bool] = False
    """Whether the truth is read besides the filters' estimates."""
    moves: ClassVar[bool] = False
    """Whether it is drawn as many pictures, one after the other."""
    best_by: ClassVar[str] = ""
    """How the best filters are found, where not all are shown."""
    more: ClassVar[dict[Part, str]] = {
        "whole": "",
        "best": " Shown are the {most} filters with the lowest {by}; the others are in the next "
        "figure.",
        "others": " Shown are the filters that are not in the figure before this one.",
    }
    """What the caption says besides, of each part."""
    of_scores: ClassVar[bool] = False
    """Whether its panels show scores, one line a filter."""
    of_lines: ClassVar[bool] = True
    """Whether it is made of lines, points and bars, and not of fields in colours."""

    every_step: ClassVar[bool] = False
    """Whether it shows means at all model steps, between measurements, too."""

    @property
    @abstractmethod
    def experiments(self) -> list[str]:
        """The experiments that it shows, each once."""

    @abstractmethod
    def cells(self, study: Study) -> list[tuple[str, Cell]]:
        """The cells whose files it reads, each with the experiment that it is shown for."""

    def files(self, study: Study) -> list[str]:
        """The files that it reads besides scores.parquet, relative to the results."""
        files: dict[str, None] = {}
        for experiment, cell in self.cells(study):
            files |= dict.fromkeys(map(cell.estimate, study.figure_filters(self, experiment)))
            if self.reads_truth:
                files[cell.truth] = None
        return list(files)

    def parts(self, study: Study, name: str) -> dict[str, FigureSection]:
        """What is drawn for the figure ``name`` of a study's config, by the names of these figures:
        itself, or where it has more filters than a figure of its kind can show, the best ones, and
        the others.
        """
        shown = {f for e in self.experiments for f in study.figure_lines(self, e)}
        if self.most is None or self.filters is not None or len(shown) <= self.most:
            return {name: self}
        return {
            name: self.as_part("best", self.title),
            f"{name}_others": self.as_part("others", f"{self.title}: the other filters"),
        }

    def as_part(self, part: Part, title: str, **changes: object) -> FigureSection:
        """The same, to be drawn as a part."""
        copy = self.model_copy(update={"title": title, **changes})
        copy._part = part
        return copy

    @property
    def part(self) -> Part:
        """What of the figure in the config this is."""
        return self._part

    @property
    def most(self) -> int | None:
        """Filters that it shows at most where it does not name them; all without this."""
        return None

    def of_part(self, best_first: Sequence[str]) -> list[str]:
        """The filters that this part shows, of all, ``best_first``."""
        best, others = best_first[: self.most], best_first[self.most :]
        chosen = {"best": best, "relative": best, "others": others, "whole": best_first}
        return list(chosen[self.part])

    @property
    def explanation(self) -> str:
        """What it shows, and how to read it: sentences of the caption."""
        return self.shows + self.more[self.part].format(most=self.most, by=self.best_by)

    @property
    def scores(self) -> list[str]:
        """The scores that it plots, each once; figures of states plot none."""
        return []

    @property
    def in_words(self) -> str:
        """What it is, for those who do not see it."""
        return self.kind.replace("_", " ").capitalize()

    def faults(self, study: Study, key: str) -> Iterator[str]:
        """What is wrong with it in a study, before anything is built; ``key`` is its place in the
        config.
        """
        experiments = study.config.experiments
        for name in self.experiments:
            if name not in experiments:
                yield unknown(f"{key}.experiment", name, "experiment", experiments)
                return
            if self.filters is not None and not study.figure_lines(self, name):
                yield f"{key}.filters = {self.filters}: none of them runs in experiment {name!r}"
            if self.every_step and (steps := study.saved_steps(experiments[name])) != 1:
                yield (
                    f"{key}: shows means at all steps, and experiment {name!r} has saved_steps = "
                    f"{steps}; set it to 1 there, or leave the figure out"
                )
        run = {f for name in self.experiments for f in study.shown_filters(name)}
        for name in self.filters or []:
            if name not in run:
                yield unknown(f"{key}.filters", name, "filter of its experiments", run)
        shown = [f for name in self.experiments for f in study.figure_lines(self, name)]
        yield from self.style.faults(study, f"{key}.style", list(dict.fromkeys(shown)))
        if not self.of_scores:
            for name in self.style.of_scores:
                yield f"{key}.style.{name}: is for figures of scores, and {self.kind!r} is none"
        found = list(self.faults_of_kind(study, key))
        yield from found
        if not found:
            name = key.removeprefix("figures.")
            for part in self.parts(study, name).keys() & study.config.figures.keys() - {name}:
                yield f"{key}: makes a figure {part!r} besides, and the config has one; rename one"

    @abstractmethod
    def faults_of_kind(self, study: Study, key: str) -> Iterator[str]:
        """The faults that figures of this kind may have, where its experiments are known."""

    def system_faults(self, key: str, system: System) -> Iterator[str]:
        """Why it cannot show a system that its experiments run."""
        yield from ()


class PointOfExperiment(Section):
    """One point of an experiment: all that it varies is chosen, but for the seeds."""

    experiment: Name = Field(description="The experiment whose cells are shown.")
    observation: Name = Field(description="Which of the experiment's observations.")
    where: dict[str, float | int | str] = Field(
        default_factory=dict,
        description="One value of each axis of the experiment: gap, members or a parameter of "
        "the system.",
    )

    def point_faults(self, study: Study, key: str, but: str | None = None) -> Iterator[str]:
        """What does not choose one point of its experiment; the axis ``but`` is not to be
        chosen.
        """
        experiment = study.config.experiments[self.experiment]
        if self.observation not in experiment.observations:
            yield unknown(
                f"{key}.observation", self.observation, "observation", experiment.observations
            )
        axes = {name: values for name, values in experiment.axes.items() if name != but}
        for name, value in self.where.items():
            if name not in axes:
                yield unknown(f"{key}.where", name, "axis", axes)
            elif value not in axes[name]:
                yield f"{key}.where.{name} = {value}: choose one of {axes[name]}"
        if missing := [
            name for name in experiment.varied if name in axes and name not in self.where
        ]:
            yield (
                f"{key}.where = {self.where}: name one value each of {', '.join(missing)}, which "
                "the experiment varies"
            )


class PointFigure(FigureSection, PointOfExperiment):
    """A figure of one point of an experiment, over all of its seeds."""

    @property
    def experiments(self) -> list[str]:
        return [self.experiment]

    def cells(self, study: Study) -> list[tuple[str, Cell]]:
        return [(self.experiment, cell) for cell in study.point_cells(self)]

    def faults_of_kind(self, study: Study, key: str) -> Iterator[str]:
        yield from self.point_faults(study, key)


class FlowFigure(PointFigure):
    """A figure of a flow."""

    reads_truth = True

    def faults_of_kind(self, study: Study, key: str) -> Iterator[str]:
        yield from super().faults_of_kind(study, key)
        system = study.config.experiments[self.experiment].system
        if not may_flow(system):
            yield (
                f"{key}.experiment = {self.experiment!r}: figure {self.kind!r} is for flows, and "
                f"{system!r} is none"
            )


def may_flow(system: str) -> bool:
    """Whether a system is a flow, by its name; that a system exists is checked elsewhere."""
    return system not in system_names() or system_class(system).flow


def seed_faults(study: Study, key: str, name: str, seed: int) -> Iterator[str]:
    """A seed that the experiment ``name`` does not run."""
    seeds = study.seeds(study.config.experiments[name])
    if seed not in seeds:
        yield f"{key}.seed = {seed}: choose one of the experiment's test seeds {seeds}"
