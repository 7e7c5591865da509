# The study behind the rules: the checked config, its cells, path patterns, commands and resources.
import json
import shlex
import shutil
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path

# The package sits beside the workflow; an installed one is used where the workflow is imported as a module.
sys.path.insert(0, str(Path(workflow.current_basedir) / ".." / ".."))

from snakemake.exceptions import WorkflowError

from masf.costs import (
    PLOT_REQUEST,
    aggregate_request,
    assimilate_request,
    simulate_request,
    train_prior_request,
)
from masf.files import FileFault, require_writable
from masf.provenance import (
    assimilate_version,
    code_version,
    simulate_version,
    train_prior_version,
)
from masf.study import ConfigFault, make_study

ROOT = Path(str(workflow.current_basedir)).parent.parent

try:
    STUDY = make_study(config, source="config", root=ROOT)
except ConfigFault as fault:
    raise WorkflowError(f"The config cannot be used.\n{fault}") from None

for name in STUDY.all_filters:
    if not (ROOT / "workflow" / "rules" / "filters" / f"{name}.smk").is_file():
        raise WorkflowError(
            f"filter {name!r} has no rule: add workflow/rules/filters/{name}.smk, as the other files there"
        )

RESULTS = STUDY.config.results.rstrip("/")
try:
    require_writable(Path(RESULTS))
except FileFault as fault:
    raise WorkflowError(f"config: results = {RESULTS!r}: {fault}") from None

SETTING = "{system}/{parameters}/{observation}"
CELL = f"{SETTING}/gap~{{gap}}/seed~{{seed}}"
# Absolute, because an inherited rule would look beside its own file.
ENVIRONMENT = str(ROOT.resolve() / "environment.yml")
LONGEST_OPTION = 2**15
TABLES = [
    f"{name}{kind}.{suffix}"
    for name in STUDY.config.experiments
    for kind in ("", "_cost")
    for suffix in ("csv", "md", "tex")
]


wildcard_constraints:
    system="[a-z0-9_]+",
    parameters="[^/]+",
    observation="[a-z0-9_]+",
    gap="[0-9]+",
    seed="[0-9]+",


def result(pattern):
    """A path below the results."""
    return f"{RESULTS}/{pattern}"


def log_path(pattern):
    return f"{RESULTS}/logs/{pattern}.log"


def benchmark_path(pattern):
    return f"{RESULTS}/benchmarks/{pattern}.tsv"


def cell_of(wildcards):
    """The cell that the wildcards name."""
    return STUDY.cells[CELL.format_map(dict(wildcards))]


CELL_BY_SETTING = {cell.setting: cell for cell in reversed(STUDY.cells.values())}


def setting_of(wildcards):
    """The first cell with the system, parameters and observation that the wildcards name."""
    return CELL_BY_SETTING[SETTING.format_map(dict(wildcards))]


def gpus(count):
    """GPUs that a job asks for: none where the study uses none."""
    return count if STUDY.config.gpu else 0


def asked(request):
    """Memory and time of a job, from its ``Request``, a function of the wildcards; both double with each retry."""
    return {
        "mem_mb": lambda wildcards, attempt: request(wildcards).attempt(attempt).mem_mb,
        "runtime": lambda wildcards, attempt: request(wildcards)
        .attempt(attempt)
        .runtime,
    }


# Commands


def command(stage, options):
    """A masf command line, quoted for the shell; mappings become JSON."""
    words = ["masf", stage]
    for name, value in options.items():
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        words += [f"--{name.replace('_', '-')}", text]
    return shlex.join(words)


def observation_json(wildcards):
    return json_of_setting(SETTING.format_map(dict(wildcards)))


@cache
def json_of_setting(setting):
    return json.dumps(CELL_BY_SETTING[setting].settings.observation, sort_keys=True)


def observation_input(wildcards):
    """The file of an observation that is too long for a command line, which may have 128 KiB; none for others."""
    if len(observation_json(wildcards)) <= LONGEST_OPTION:
        return []
    return result(f"{SETTING}/observation.json").format_map(dict(wildcards))


def observation_option(wildcards):
    """The observation itself, or the name of its file."""
    path = observation_input(wildcards)
    return f"@{path}" if path else setting_of(wildcards).settings.observation


def simulate_command(wildcards):
    settings = asdict(cell_of(wildcards).settings)
    return command(
        "simulate", settings | {"observation": observation_option(wildcards)}
    )


def train_prior_command(wildcards):
    cell = setting_of(wildcards)
    return command(
        "train-prior",
        {
            "system": cell.settings.system,
            "parameters": cell.settings.parameters,
            "observation": observation_option(wildcards),
            "settings": STUDY.prior_settings(cell).model_dump(exclude_defaults=True),
            "seed": STUDY.config.seeds.training,
        },
    )


def assimilate_command(name):
    """The command of a filter of this package, as a function of the wildcards."""
    return lambda wildcards: command(
        "assimilate",
        {
            "filter": name,
            "module": STUDY.filter_module(name),
            "parameters": STUDY.filter_parameters(name, cell_of(wildcards)),
            "saved_members": STUDY.config.saved_members,
        },
    )


# What the rules in filters/ are made of


def estimate_output(name):
    """The files that a filter's rule writes."""
    return {
        "estimate": result(f"{CELL}/{name}.nc"),
        "cost": result(f"{CELL}/{name}.cost.json"),
    }


def prior_input(name):
    """The pretrained prior, in the cells where a filter's parameters need one."""

    def for_cell(wildcards):
        cell = cell_of(wildcards)
        return result(cell.prior_path) if STUDY.needs_prior(name, cell) else []

    return for_cell


def prior_option(wildcards, input):
    """The option that hands a filter the pretrained prior, if it needs one."""
    return shlex.join(["--prior", str(input.prior)]) if input.prior else ""


def assimilate_params(name):
    """All params of a filter of this package, for ``params: **assimilate_params(name)``."""
    code = STUDY.filter_module(name)
    return {
        "command": assimilate_command(name),
        "version": lambda wildcards: assimilate_version(code, wildcards.system),
        "device": "cuda" if gpus(STUDY.filters[name].resources.gpu) else "cpu",
        "prior": "",
    }


def assimilate_resources(name):
    """What a filter asks for: at least what its file in config/filters says."""
    return {
        "gpu": gpus(STUDY.filters[name].resources.gpu),
        **asked(lambda wildcards: assimilate_request(STUDY, name, cell_of(wildcards))),
    }


# Other functions of wildcards, inputs and outputs


def folder_of_tables(wildcards, output):
    return str(Path(output.tables[0]).parent)


def figure_of(wildcards):
    return STUDY.config.figures[wildcards.figure]


def say_if_disk_is_full():
    """The jobs' logs cannot say it: they are on that disk."""
    if Path(RESULTS).is_dir() and (free := shutil.disk_usage(RESULTS).free) < 2**20:
        print(
            f"The disk of {RESULTS} is full ({free >> 10} KiB free): make room there, and run the same command again.",
            file=sys.stderr,
        )
