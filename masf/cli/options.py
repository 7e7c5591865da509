"""What commands share: kinds of options, options, and the limits that they set before anything is
imported.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import click

from masf.gaps import as_gap
from masf.study.markup import RepeatedKey, read_json, read_yaml

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Input(click.Path):
    """A file that a command reads; refused where the command would write it, too."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(str(super().convert(value, param, ctx)))
        _keep_apart(path, "reads", self, param, ctx)
        return path


class ConfigContent(click.ParamType):
    """A config file that a command reads, or its content as JSON."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value.lstrip().startswith("{"):
            _keep_apart(Path(value), "reads", self, param, ctx)
        return value


class Output(click.Path):
    """A file or folder that a command writes; refused before any work where it cannot be
    written.
    """

    def __init__(self, *, folder: bool = False) -> None:
        super().__init__(path_type=Path, file_okay=not folder, dir_okay=folder)
        self.folder = folder

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from masf.atomic import require_writable

        path = Path(str(super().convert(value, param, ctx)))
        require_writable(path if self.folder else path.parent)
        if not self.folder:
            _keep_apart(path, "writes", self, param, ctx)
        return path


def _keep_apart(
    path: Path,
    use: Literal["reads", "writes"],
    kind: click.ParamType,
    param: click.Parameter | None,
    ctx: click.Context | None,
) -> None:
    """Notes that a command reads or writes a file. Fails where it would write one that it reads, or
    one file twice, whichever of their options comes first; links are followed.
    """
    if param is None or ctx is None:
        return
    uses: dict[Path, tuple[str, str]] = ctx.meta.setdefault(f"{__name__}.uses", {})
    this = use, param.get_error_hint(ctx)
    other_use, other = uses.setdefault(path.resolve(), this)
    if uses[path.resolve()] is not this and "writes" in (use, other_use):
        kind.fail(
            f"'{path}': {other} {other_use} this file, and it would be lost: name another",
            param,
            ctx,
        )


EXISTING, OUTPUT, OUTPUT_FOLDER = Input(), Output(), Output(folder=True)

device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "cpu", "cuda"]),
    help="Where to compute.",
)
threads_option = click.option(
    "--threads",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Processor cores to use.",
)
study_option = click.option(
    "--study",
    required=True,
    type=EXISTING,
    help="The config: a YAML file, or the study.json of a workflow's results.",
)


class JsonMapping(click.ParamType):
    """A JSON object on the command line, or ``@FILE`` that holds one: a command may not be longer
    than 128 KiB.
    """

    name = "json"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        text = value
        if value.startswith("@"):
            _keep_apart(Path(value[1:]), "reads", self, param, ctx)
            try:
                text = Path(value[1:]).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                self.fail(f"{value!r}: the file cannot be read: {error}", param, ctx)
        try:
            content = read_json(text)
        except json.JSONDecodeError as error:
            self.fail(f"{value!r} is not JSON: {error}", param, ctx)
        except RepeatedKey as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        if not isinstance(content, dict):
            self.fail(f"{value!r}: expected a JSON object such as '{{\"key\": 1}}'", param, ctx)
        return content


class YamlMapping(click.ParamType):
    """A YAML mapping on the command line, or ``@FILE`` that holds one."""

    name = "yaml"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        import yaml

        if isinstance(value, dict):
            return value
        if value.startswith("@"):
            _keep_apart(Path(value[1:]), "reads", self, param, ctx)
        try:
            text = Path(value[1:]).read_text(encoding="utf-8") if value.startswith("@") else value
            content = read_yaml(text)
        except (OSError, UnicodeDecodeError) as error:
            self.fail(f"{value!r}: the file cannot be read: {error}", param, ctx)
        except yaml.YAMLError as error:
            self.fail(f"{value!r} is not YAML: {error}", param, ctx)
        except RepeatedKey as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        if not isinstance(content, dict):
            self.fail(f"{value!r}: expected a mapping such as '{{width: single}}'", param, ctx)
        return content


class GapSpec(click.ParamType):
    """Model steps between two measurements, or a pattern of them."""

    name = "steps"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        try:
            return as_gap(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def use_threads(threads: int) -> None:
    """Limits numerical libraries to ``threads`` cores; to be called before they are imported."""
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)


def use_device(device: str) -> None:
    """Claims a card of its own for a process that shall compute on one; to be called before torch
    is imported.
    """
    if device == "cuda":
        from masf.devices import claim_card

        claim_card()
