"""Documents of the repository that are not in docs/ become pages, and links work there as they do
in the repository.

The tables of keys.md are made here from the classes that check a config.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from mkdocs.structure.files import File

from masf.cli import commands

ROOT = Path(__file__).parent.parent
PAGES = {
    "configuration.md": "config/README.md",
    "files.md": "results/README.md",
    "benchmarks.md": "benchmarks/README.md",
    "changelog.md": "CHANGELOG.md",
}
"""Pages, and the files that they are made of."""
KEYS = "<!-- keys: config -->"
"""Where the tables of keys stand."""
MODULES = "modules.md"
"""Where links to the package's modules lead."""
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are made of files elsewhere."""
    for page, source in PAGES.items():
        files.append(
            File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8"))
        )
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns links between files of the repository into links between pages."""
    place = posixpath.dirname(PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}"))
    known = {source: name for name, source in PAGES.items()}

    def relative(target: str) -> str:
        return posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".")

    def replaced(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(place, match[1]))
        if target.startswith("masf/") and target.endswith(".py"):
            return f"]({relative(MODULES)}#{target.removesuffix('.py').replace('/', '.')})"
        inside = known.get(
            target, target.removeprefix("docs/") if target.startswith("docs/") else None
        )
        # Anything else is in the repository only: its name stays, without a link.
        return f"]({relative(inside)}{match[2] or ''})" if inside else "]{ }"

    if KEYS in markdown:
        markdown = markdown.replace(KEYS, keys())
    return LINK.sub(replaced, markdown).replace("]{ }", "]")


def keys() -> str:
    """Tables of every key: of configs and their files from JSON schemas, of filters and systems
    from their classes.
    """
    told: set[str] = set()
    parts = ["## A study's config", *_schema_tables("config", told)]
    parts += ["## A filter's file", *_schema_tables("filter", told)]
    parts += ["## A file of tuned values", *_schema_tables("tuned", told)]
    parts += ["## A setting of the literature", *_schema_tables("setting", told)]
    for kind, title in (("filters", "Parameters of filters"), ("systems", "Parameters of systems")):
        parts.append(f"## {title}")
        for name, *_ in _listed(kind):
            if (
                ROOT / "masf" / kind / f"{name}.py"
            ).exists():  # not a command, whose parameters are its own
                rows = _listed(kind, name)
                parts += [
                    f"### `{name}`",
                    _table([[f"`{key}`", default, text] for key, default, text in rows], 3)
                    if rows
                    else "None.",
                ]
    return "\n\n".join(parts)


def _listed(*words: str) -> list[list[str]]:
    """What ``masf list`` prints, line by line."""
    printed = CliRunner().invoke(commands, ["list", *words], catch_exceptions=False).output
    return [line.split("\t") for line in printed.splitlines() if line]


def _schema_tables(name: str, told: set[str]) -> list[str]:
    """A table for a schema and each class below it that has not had one; ``told`` are those that
    have, and grows.
    """
    schema = json.loads(
        (ROOT / "workflow" / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8")
    )
    definitions = schema.get("$defs", {})
    parts = [_keys_of(schema)]
    for title, section in sorted(definitions.items()):
        if "properties" in section and title not in told:
            told.add(title)
            parts += [f"### {title}", section.get("description", "").strip(), _keys_of(section)]
    return parts


def _keys_of(section: dict[str, Any]) -> str:
    """One row a key: name, what it may be, default, meaning."""
    required = section.get("required", [])
    return _table([
        [
            f"`{key}`",
            _kind(field),
            "required" if key in required else _value(field.get("default")),
            field.get("description", ""),
        ]
        for key, field in section["properties"].items()
    ], 4)  # fmt: skip


def _kind(field: dict[str, Any]) -> str:
    """What a value may be, in words; names of other tables are links."""
    if "$ref" in field:
        title = field["$ref"].rsplit("/", 1)[-1]
        return f"[{title}](#{title.lower()})"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if options := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(dict.fromkeys(_kind(option) for option in options))
    if field.get("type") == "array":
        return f"list of {_kind(field['items'])}" if field.get("items") else "list"
    if field.get("type") == "object":
        values = [*field.get("patternProperties", {}).values(), field.get("additionalProperties")]
        inner = next((_kind(value) for value in values if isinstance(value, dict)), "")
        return f"mapping to {inner}" if inner else "mapping"
    return {
        "null": "`null`",
        "integer": "integer",
        "number": "number",
        "string": "text",
        "boolean": "`true`, `false`",
    }.get(field.get("type", ""), "anything") + _bounds(field)


def _bounds(field: dict[str, Any]) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    return "".join(f", {said} {field[key]:g}" for key, said in words.items() if key in field)


def _value(value: object) -> str:
    return "" if value is None else f"`{json.dumps(value)}`"


def _table(rows: list[list[str]], columns: int) -> str:
    heads = {3: ["parameter", "default", "meaning"], 4: ["key", "value", "default", "meaning"]}[
        columns
    ]
    lines = [
        heads,
        ["---"] * columns,
        *([cell.replace("|", "\\|") for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
