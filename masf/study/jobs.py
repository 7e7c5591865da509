"""What each rule of the workflow runs and asks for, of the study that it is given.

Snakemake knows files and rules, and this module the rest: a :class:`Job` is what one job of a rule
is told. Its command says all that follows from the study; the files that the job reads and writes,
the device and the threads are added by the rule.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from masf.files.provenance import (
    assimilate_version,
    code_version,
    content,
    page_version,
    simulate_version,
    train_prior_version,
    tune_version,
    with_content,
)
from masf.observations.own_functions import file_of
from masf.programs import missing_program
from masf.study import paths
from masf.study.cells import Cell, PriorTraining
from masf.study.costs import (
    PLOT_REQUEST,
    Request,
    aggregate_request,
    assimilate_request,
    in_turn,
    simulate_request,
    train_prior_request,
    tune_request,
)
from masf.study.search import plain
from masf.study.study import Study

LONGEST_OPTION = 2**15
"""Characters of an observation beyond which it goes by a file: a command may have 128 KiB."""


@dataclass(frozen=True)
class Job:
    """What one job of a rule runs and asks for."""

    command: str
    """A masf command line, quoted for the shell."""
    request: Request
    """Memory and time of its first attempt."""
    version: str
    """Fingerprint of the code that it runs: another one makes its outputs outdated."""
    inputs: dict[str, list[str]] = field(default_factory=dict)
    """The files that it reads, by the name that the rule has for them."""
    threads: int = 1
    gpu: int = 0

    @property
    def device(self) -> str:
        """Where it computes."""
        return "cuda" if self.gpu else "cpu"


class Jobs:
    """The jobs of a study, by their rule and by what its wildcards stand for."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._made: dict[tuple[str, str], Job] = {}

    def __call__(self, rule: str, wildcards: Mapping[str, str]) -> Job:
        pattern = paths.job(rule, together="seed" not in wildcards)
        key = rule, pattern.format_map(wildcards)
        if key not in self._made:
            self._made[key] = _MAKERS[rule](self.study, wildcards)
        return self._made[key]


def masf_command(stage: str, options: Mapping[str, Any], *arguments: str) -> str:
    """A masf command line, quoted for the shell; mappings become JSON, what is None is left out,
    and an option whose value is a tuple is repeated.
    """
    words = ["masf", stage, *arguments]
    for name, given in options.items():
        for value in given if isinstance(given, tuple) else (given,):
            if value is None:
                continue
            text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
            words += [f"--{name.replace('_', '-')}", text]
    return shlex.join(words)


def file_options(option: str, files: Iterable[str]) -> str:
    """The words that hand files to a command: the option before each."""
    return shlex.join(word for path in files for word in (f"--{option}", path))


def missing_programs(study: Study) -> Iterator[str]:
    """What to say of the filters whose program is not there."""
    for name in study.all_filters:
        definition = study.filters[name]
        if definition.command and (program := missing_program(definition.command)):
            remedy = definition.install or "install it, or leave the filter out"
            yield f"filter {name!r} runs {program}, which is not there: {remedy}"


# Observations


@cache
def observation_text(study: Study, name: str) -> str:
    """An observation as the command line takes it, in JSON."""
    settings = study.config.observations[name].model_dump(exclude_defaults=True)
    return json.dumps(settings, sort_keys=True)


def _observation_files(study: Study, name: str) -> dict[str, list[str]]:
    """The file of an observation that is too long for a command line; none for others."""
    if len(observation_text(study, name)) <= LONGEST_OPTION:
        return {}
    return {"observation": [_below(study, paths.OBSERVATION.format(observation=name))]}


def _observation_option(study: Study, name: str) -> str:
    """The observation itself, or the name of its file."""
    for files in _observation_files(study, name).values():
        return f"@{files[0]}"
    return observation_text(study, name)


def _functions(study: Study, name: str) -> list[Path]:
    """The files of functions that an observation names."""
    said = study.config.observations[name].function_in_file
    return [] if said is None else [file_of(said)]


# The jobs of each rule


def simulate_job(study: Study, cells: list[Cell]) -> Job:
    """The truths of cells that differ in their seed."""
    cell = cells[0]
    options = asdict(cell.settings) | {
        "observation": _observation_option(study, cell.observation_name),
        "seed": tuple(c.settings.seed for c in cells),
    }
    functions = _functions(study, cell.observation_name)
    return Job(
        command=masf_command("simulate", options),
        request=in_turn([simulate_request(c) for c in cells]),
        version=with_content(simulate_version(cell.settings.system), functions),
        inputs=_observation_files(study, cell.observation_name)
        | _read_besides("functions", functions),
    )


def train_prior_job(study: Study, prior: PriorTraining) -> Job:
    """The training of a prior, or the taking of the one that is shipped."""
    files = _observation_files(study, prior.observation_name)
    options = {
        "system": prior.system,
        "parameters": prior.parameters,
        "observation": _observation_option(study, prior.observation_name),
        "settings": prior.settings.model_dump(exclude_defaults=True),
        "seed": study.config.seeds.training,
    }
    functions = _functions(study, prior.observation_name)
    inputs = files | _read_besides("functions", functions)
    if prior.shipped is not None:
        return Job(
            command=masf_command("train-prior", options, "--shipped"),
            request=train_prior_request(prior),
            version=f"shipped {content(prior.shipped)[:12]}",
            inputs=inputs,
        )
    return Job(
        command=masf_command("train-prior", options),
        request=train_prior_request(prior),
        version=with_content(train_prior_version(prior.system), functions),
        inputs=inputs,
        gpu=_gpus(study, 1),
    )


def assimilate_job(study: Study, name: str, cells: list[Cell]) -> Job:
    """A filter's runs in cells that differ in their seed."""
    cell = cells[0]
    tuned, files = study.tuning_path(name, cell), study.input_files(name, cell)
    functions = _functions(study, cell.observation_name)
    options = {
        **_runner(study, name),
        "parameters": study.default_parameters(name, cell),
        "pinned": study.config.pinned.get(name, {}),
        "saved_members": cell.saved_members,
        "saved_steps": None if cell.saved_steps == 1 else cell.saved_steps,
        "covariance": cell.reference is not None or None,
    }
    inputs = {
        "truth": [_below(study, c.truth) for c in cells],
        **_prior_file(study, name, cell),
        **_read_besides("parameter_files", files),
        **_read_besides("functions", functions),
        **({} if tuned is None else {"tuned": [_below(study, tuned)]}),
    }
    resources = study.filters[name].resources
    return Job(
        command=masf_command("assimilate", options),
        request=in_turn([assimilate_request(study, name, c) for c in cells]),
        version=with_content(assimilate_version(*_code(study, name, cell)), [*files, *functions]),
        inputs=inputs,
        threads=resources.threads,
        gpu=_gpus(study, resources.gpu),
    )


def tune_job(study: Study, name: str, cells: list[Cell]) -> Job:
    """The tuning of a filter at a point, whose cells, one a tuning seed, are given."""
    tuning, cell = study.config.tuning, cells[0]
    assert tuning is not None
    files = study.input_files(name, cell)
    functions = _functions(study, cell.observation_name)
    options = {
        **_runner(study, name),
        "parameters": study.default_parameters(name, cell),
        "pinned": study.config.pinned.get(name),
        "search": {key: plain(choice) for key, choice in study.search(name, cell).items()},
        "situation": cell.situation,
        "trials": tuning.trials,
        "score": tuning.score,
        "spin_up_cycles": cell.spin_up_cycles,
    }
    inputs = {
        "truths": [_below(study, c.truth) for c in cells],
        **_prior_file(study, name, cell),
        **_read_besides("parameter_files", files),
        **_read_besides("functions", functions),
    }
    resources = study.filters[name].resources
    return Job(
        command=masf_command("tune", options),
        request=tune_request(study, name, cells),
        version=with_content(tune_version(*_code(study, name, cell)), [*files, *functions]),
        inputs=inputs,
        threads=resources.threads,
        gpu=_gpus(study, resources.gpu),
    )


def aggregate_job(study: Study) -> Job:
    """All estimates and costs, into scores and tables."""
    estimates = [
        path
        for cell in study.cells.values()
        for name in cell.filters
        for path in (cell.estimate(name), cell.cost(name))
    ]  # fmt: skip
    return Job(
        command=masf_command("aggregate", {}),
        request=aggregate_request(study),
        version=code_version("stages.aggregate"),
        inputs={
            "study": [_below(study, paths.STUDY)],
            "estimates": [_below(study, path) for path in estimates],
            "truths": [_below(study, path) for path in study.scored_truths],
            "tuned": tuned_files(study),
        },
    )


def plot_job(study: Study, figure: str) -> Job:
    """A figure."""
    return Job(
        command=masf_command("plot", {}, figure),
        request=PLOT_REQUEST,
        version=code_version("stages.plot"),
        inputs={
            "study": [_below(study, paths.STUDY)],
            "scores": [_below(study, paths.SCORES)],
            "files": [_below(study, path) for path in study.figure_files(figure)],
        },
    )


def page_job(study: Study) -> Job:
    """The page."""
    return Job(
        command=masf_command("page", {}),
        request=PLOT_REQUEST,
        version=page_version(),
        inputs={
            "study": [_below(study, paths.STUDY)],
            "scores": [_below(study, paths.SCORES)],
            "costs": [_below(study, paths.COSTS)],
            "figures": [_below(study, paths.figure(name, "png")) for name in study.figures],
        },
    )


def tuned_files(study: Study) -> list[str]:
    """What stage tune makes."""
    return [
        _below(study, cells[0].tuned(name))
        for point, cells in study.points.items()
        for name in study.tuned_filters(point)
    ]  # fmt: skip


_MAKERS: dict[str, Callable[[Study, Mapping[str, str]], Job]] = {
    "simulate": lambda study, at: simulate_job(study, study.batch(at)),
    "train_prior": lambda study, at: train_prior_job(
        study, study.priors[paths.PRIOR.format_map(at)]
    ),
    "tune": lambda study, at: tune_job(
        study, at["filter"], study.points[paths.POINT.format_map(at)]
    ),
    "assimilate": lambda study, at: assimilate_job(
        study, at["filter"], study.batch(at, at["filter"])
    ),
    "aggregate": lambda study, _: aggregate_job(study),
    "plot": lambda study, at: plot_job(study, at["figure"]),
    "page": lambda study, _: page_job(study),
}
"""By rule, its job for what the wildcards stand for."""


def all_jobs(study: Study) -> dict[str, tuple[str, dict[str, str]]]:
    """The rule of each job of a study, and what the rule's wildcards stand for; by the job's first
    output, below the results.
    """
    found: dict[str, tuple[str, dict[str, Any]]] = {
        **{cells[0].truth: ("simulate", _wildcards(study, cells)) for cells in study.batches()},
        **{path: ("train_prior", prior.wildcards) for path, prior in study.priors.items()},
    }
    for point, (cell, *_) in study.points.items():
        for name in study.tuned_filters(point):
            found[cell.tuned(name)] = "tune", cell.wildcards | {"filter": name}
    for name in study.all_filters:
        for cells in study.batches(name):
            at = _wildcards(study, cells) | {"filter": name}
            found[cells[0].estimate(name)] = "assimilate", at
    found |= {paths.SCORES: ("aggregate", {})}
    found |= {paths.figure(name, "pdf"): ("plot", {"figure": name}) for name in study.figures}
    found |= {paths.PAGE: ("page", {})}
    return {
        path: (rule, {key: str(value) for key, value in wildcards.items()})
        for path, (rule, wildcards) in found.items()
    }  # fmt: skip


def rules_by_seeds(
    study: Study, name: str, filter_name: str | None = None
) -> list[tuple[str, tuple[int, ...], list[str]]]:
    """The rules that make truths, or a filter's estimates, where one job has all seeds: of each its
    name, the seeds of its jobs, and the paths of the situations that have these. The rule of most
    situations is called ``name``.
    """
    return [
        (name if i == 0 else "_".join([name, "seeds", *map(str, seeds)]), seeds, points)
        for i, (seeds, points) in enumerate(study.seeds_together(filter_name).items())
    ]


def rule_of(study: Study, rule: str, at: Mapping[str, str]) -> str:
    """What the workflow calls the rule of a job, one of those in ``all_jobs``."""
    if rule == "tune":
        return "tune_gpu" if study.filters[at["filter"]].resources.gpu else rule
    if rule not in ("simulate", "assimilate"):
        return rule
    filter_name = at.get("filter")
    name = rule if filter_name is None else f"{rule}_{filter_name}"
    if "seed" in at:
        return name
    point = paths.POINT.format_map(at)
    by_seeds = rules_by_seeds(study, name, filter_name)
    return next(called for called, _, points in by_seeds if point in points)


def _wildcards(study: Study, cells: list[Cell]) -> dict[str, Any]:
    """What a rule's wildcards stand for in the job of these cells."""
    return cells[0].wildcards_together if study.config.seeds.together else cells[0].wildcards


# What jobs of filters share


def _gpus(study: Study, count: int) -> int:
    """GPUs that a job asks for: none where the study uses none."""
    return count if study.config.gpu else 0


def _code(study: Study, name: str, cell: Cell) -> tuple[str, str, str | None]:
    """What the code versions of stages that run a filter are asked for."""
    return study.filter_module(name), cell.settings.system, study.filter_command(name)


def _runner(study: Study, name: str) -> dict[str, str | None]:
    """The options that say what runs a filter."""
    command = study.filter_command(name)
    module = study.filter_module(name) if command is None else None
    return {"filter": name, "module": module, "command": command}


def _prior_file(study: Study, name: str, cell: Cell) -> dict[str, list[str]]:
    """The pretrained prior, where a filter needs one in a cell."""
    if not study.needs_prior(name, cell):
        return {}
    return {"prior": [_below(study, study.prior(cell).path)]}


def _read_besides(name: str, files: Iterable[Path]) -> dict[str, list[str]]:
    """The inputs called ``name``: files that a job reads besides results, below the working
    directory by a relative path, so that a project that is moved as a whole has nothing to run
    again.
    """
    here = Path.cwd().resolve()
    found = {
        str(path.relative_to(here)) if path.is_relative_to(here) else str(path) for path in files
    }
    return {name: sorted(found)} if found else {}


def _below(study: Study, path: str) -> str:
    return paths.below(study.config.results, path)
