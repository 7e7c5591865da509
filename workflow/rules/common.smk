# The study behind the rules: the checked config, its cells, path patterns, commands and resources.
import json
import shlex
import sys
from pathlib import Path

# The package sits beside the workflow; an installed one is used where the workflow is imported as a module.
sys.path.insert(0, str(Path(workflow.current_basedir) / ".." / ".."))

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
    from snakemake.exceptions import WorkflowError

    raise WorkflowError(f"The config cannot be used.\n{fault}") from None

RESULTS = STUDY.config.results.rstrip("/")
SETTING = "{system}/{parameters}/{observation}"
CELL = f"{SETTING}/gap~{{gap}}/seed~{{seed}}"
# Absolute, because an inherited rule would look beside its own file.
ENVIRONMENT = str(ROOT.resolve() / "environment.yml")


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
    """The cell that the wildcards name; the first of its seeds where a rule has no seed."""
    return STUDY.cells[CELL.format_map(dict(wildcards))]


CELL_BY_SETTING = {
    "/".join(path.split("/")[:3]): cell for path, cell in reversed(STUDY.cells.items())
}


def setting_of(wildcards):
    """Any cell with the system, parameters and observation that the wildcards name."""
    return CELL_BY_SETTING[SETTING.format_map(dict(wildcards))]


def command(*words):
    """A masf command line, quoted for the shell."""
    return shlex.join(["masf", *(str(word) for word in words)])


def observation_json(cell):
    return json.dumps(cell.settings.observation, sort_keys=True)


def parameters_json(cell):
    return json.dumps(cell.settings.parameters, sort_keys=True)


def gpus(count):
    """GPUs that a job asks for: none where the study uses none."""
    return count if STUDY.config.gpu else 0


def growing(amount):
    """A resource that doubles with each retry."""
    return lambda wildcards, attempt: amount * 2 ** (attempt - 1)
