"""masf: a benchmark suite for score-based data assimilation.

The stages of the study are subcommands of ``masf`` (see :mod:`masf.cli`); the Snakemake workflow
calls them. In Python the same stages work in memory; what is listed in ``__all__`` is loaded from
:mod:`masf.api` when it is first used.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "ConfigFault",
    "ContractFault",
    "FileFault",
    "Filter",
    "FilterParameters",
    "InputFile",
    "NonlinearObservation",
    "Observation",
    "Refused",
    "Stream",
    "System",
    "SystemParameters",
    "assimilate",
    "check_filter",
    "check_observation",
    "check_system",
    "innovation_figure",
    "innovation_statistics",
    "make_observation",
    "make_problem",
    "make_system",
    "score",
    "simulate",
    "train_prior",
]

if TYPE_CHECKING:
    from masf.api import (
        ConfigFault,
        ContractFault,
        FileFault,
        Filter,
        FilterParameters,
        InputFile,
        NonlinearObservation,
        Observation,
        Refused,
        Stream,
        System,
        SystemParameters,
        assimilate,
        check_filter,
        check_observation,
        check_system,
        innovation_figure,
        innovation_statistics,
        make_observation,
        make_problem,
        make_system,
        score,
        simulate,
        train_prior,
    )


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from masf import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
