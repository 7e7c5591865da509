"""``masf list``: the systems, filters, observations, settings and experiments that there are."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from masf.cli.options import EXISTING
from masf.cli.output import print_table

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


@click.command("list")
@click.argument(
    "kind", type=click.Choice(["systems", "filters", "observations", "settings", "experiments"])
)
@click.argument("name", required=False)
@click.option(
    "--config",
    default="config/config.yaml",
    show_default=True,
    type=EXISTING,
    help="The study, for experiments.",
)
def list_(kind: str, name: str | None, config: Path) -> None:
    """List systems, filters, observations, settings, experiments.

    Settings are those of the literature. With NAME, the parameters of that one, its keys, or its
    published scores. Piped into another program, the list has one line each, fields separated by
    tabs, and no heading.
    """
    if kind == "experiments":
        _experiments(config, name)
    elif kind == "settings":
        _settings(name)
    elif kind == "observations":
        _observations(name)
    elif name is None:
        print_table(["NAME", "WHAT IT IS"], _systems() if kind == "systems" else _filters())
    else:
        _parameters(kind, name)


def _systems() -> list[tuple[str, str]]:
    from masf.systems.registry import system_names

    return [(name, _what_it_is("systems", name)) for name in system_names()]


def _filters() -> list[tuple[str, str]]:
    """Filters of ours by their first paragraphs, and the others by their labels and commands."""
    from masf.filters.registry import filter_names
    from masf.study.defaults import filter_definition, known_filters

    ours = {name: _what_it_is("filters", name) for name in filter_names()}
    files = {name: filter_definition(name) for name in known_filters() if name not in ours}
    others = {
        name: f"{content.get('label')}: "
        + (
            content.get("command")
            or f"{content.get('filter')}, {_pairs(content.get('parameters', {}))}."
        )
        for name, content in files.items()
    }
    return [*ours.items(), *others.items()]


def _observations(name: str | None) -> None:
    from masf.observations.settings import OPERATORS
    from masf.plugins import suggestion

    if name is None:
        rows = [(key, first_paragraph(cls.__doc__ or "")) for key, cls in OPERATORS.items()]
        print_table(["OPERATOR", "WHAT IS MEASURED"], rows)
    elif name not in OPERATORS:
        raise ValueError(f"unknown operator {name!r}{suggestion(name, OPERATORS)}")
    else:
        fields = OPERATORS[name].model_fields
        print_table(["KEY", "DEFAULT", "MEANING"], _rows(fields))


def _settings(name: str | None) -> None:
    """All by their titles; of one, what it is, and every filter with its published score."""
    from masf.study.defaults import published_setting, setting_names

    if name is None:
        print_table(
            ["NAME", "SETTING"], [(key, published_setting(key).title) for key in setting_names()]
        )
        return
    found = published_setting(name)
    observation = found.observation.written()
    rows = [
        ("title", found.title),
        ("source", found.source),
        ("chosen by us", found.chosen),
        ("system", f"{found.system} ({_pairs(found.parameters)})"),
        ("observation", _pairs(observation)),
        ("gap", str(found.gap)),
        ("initial spread", f"{found.initial_spread:g}"),
        ("cycles", f"{found.cycles}, the first {found.spin_up_cycles} not scored"),
    ]
    rows += [
        (
            f"{run.name}, N {run.members}",
            "; ".join(
                [
                    "not published" if run.published is None else f"RMSE {run.published:g}",
                    *([_pairs(run.parameters)] if run.parameters else []),
                    *([] if run.filter else ["not in masf"]),
                    *([run.note] if run.note else []),
                ]
            ),
        )
        for run in found.runs
    ]
    print_table(["KEY", "VALUE"], rows)


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {_yaml(value)}" for key, value in values.items())


def _experiments(config: Path, name: str | None) -> None:
    from masf.plugins import suggestion
    from masf.report.words import number_or_text
    from masf.study.load import load_study

    study = load_study(config)
    experiments = study.config.experiments
    if name is None:
        heading = ["NAME", "CELLS", "FILTERS", "TITLE"]
        cells = {
            key: sum(key in cell.experiments for cell in study.cells.values())
            for key in experiments
        }
        print_table(
            heading,
            [
                (key, str(cells[key]), str(len(study.experiment_filters(e))), e.title)
                for key, e in experiments.items()
            ],
        )
        return
    if name not in experiments:
        raise ValueError(f"{config}: unknown experiment {name!r}{suggestion(name, experiments)}")
    found = experiments[name]
    axes = {key: ", ".join(map(number_or_text, values)) for key, values in found.axes.items()}
    print_table(
        ["KEY", "VALUE"],
        [
            ("title", found.title),
            ("system", found.system),
            *axes.items(),
            ("observations", ", ".join(found.observations)),
            ("seeds", ", ".join(map(str, study.seeds(found)))),
            ("cycles", f"{found.cycles}, the first {found.spin_up_cycles} not scored"),
            ("filters", ", ".join(study.experiment_filters(found))),
        ],
    )


def _parameters(kind: str, name: str) -> None:
    """Parameters with the defaults of the class, as its fields describe them; of a filter that is
    one of ours under another name, with what its file says in place of these; of one that is a
    command, what its file says.
    """
    from masf.filters.registry import filter_class, filter_names
    from masf.study.defaults import filter_definition, known_filters
    from masf.systems.registry import system_class

    said: dict[str, Any] = {}
    if kind == "systems":
        fields = system_class(name).Parameters.model_fields
    elif name in filter_names() or name not in known_filters():  # which filter_class refuses
        fields = filter_class(name).Parameters.model_fields
    else:
        content = filter_definition(name)
        said = content.get("parameters", {})
        command = "command" in content
        fields = {} if command else filter_class(content["filter"]).Parameters.model_fields
    rows = _rows(fields) or [(key, "", "") for key in said]
    rows = [(key, _yaml(said[key]) if key in said else at, what) for key, at, what in rows]
    print_table(["PARAMETER", "DEFAULT", "MEANING"], rows)


def _rows(fields: Mapping[str, FieldInfo]) -> list[tuple[str, str, str]]:
    """Name, default and description of the fields of a class."""
    return [
        (key, "" if f.is_required() else _yaml(f.default), f.description or "")
        for key, f in fields.items()
    ]


def _yaml(value: object) -> str:
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value))
        if isinstance(value, bool | None)
        else str(value)
    )


def _what_it_is(kind: str, name: str) -> str:
    """The first paragraph of a module's docstring, without importing it; of what a package brings,
    that of its class.
    """
    from masf.plugins import brought, load

    if name in brought(kind):
        return first_paragraph(load(kind, name, object).__doc__ or "")
    path = Path(__file__).parent.parent / kind / f"{name}.py"
    return first_paragraph(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")


def first_paragraph(docstring: str) -> str:
    """The first paragraph of a docstring, in one line."""
    return " ".join(docstring.strip().partition("\n\n")[0].split())
