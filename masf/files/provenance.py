"""What made a file: the package's version and a fingerprint of the code that a stage runs.

Snakemake does not see edits in this package. The workflow therefore puts :func:`code_version` of a
stage into its rule's parameters: an edit to a filter reruns that filter's cells and nothing else.
The fingerprint covers the stage's module and all modules of this package that it imports, directly
or not, and ignores comments, docstrings and layout. This module is left out: it says what made a
file, and has no part in the rest of it.
"""

from __future__ import annotations

import ast
import hashlib
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from masf import __version__
from masf.atomic import sha256
from masf.plugins import brought, source_of

_PACKAGE = Path(__file__).parent.parent


_OF_PRIORS = ("files.trained_prior", "diffusion.linear_state")
"""Modules below ``masf`` that stage assimilate imports to load a prior."""


@cache
def code_version(*modules: str, without: tuple[str, ...] = ()) -> str:
    """Fingerprint of the code of ``modules`` (names below ``masf``) and of all that they import
    from this package.

    ``without`` names modules below ``masf`` that are imported but do not run.

    Raises:
        ValueError: for a module that does not exist.
    """
    digest = hashlib.sha256()
    for module in sorted(_reached(modules, without)):
        digest.update(f"{module} {_fingerprint(module)}\n".encode())
    return digest.hexdigest()[:12]


def _reached(modules: tuple[str, ...], without: tuple[str, ...] = ()) -> set[str]:
    """``modules`` and all that they import from this package, directly or not, but for those
    ``without`` and what they import.
    """
    left_out = {__name__, *(f"masf.{m}" for m in without)}
    seen: set[str] = set()
    waiting = [f"masf.{m}" for m in modules]
    while waiting:
        module = waiting.pop()
        if module not in seen | left_out:
            seen.add(module)
            waiting.extend(_imports(module))
    return seen


def _parts(*, system: str, filter_module: str | None = None) -> tuple[list[str], str]:
    """The modules below ``masf`` of a system and a filter, and a fingerprint of those that other
    packages bring; empty where none does.
    """
    kinds = {"systems": system} | ({} if filter_module is None else {"filters": filter_module})
    own, digest, others = [], hashlib.sha256(), False
    for kind, name in kinds.items():
        if name not in brought(kind):
            own.append(f"{kind}.{name}")
            continue
        others = True
        for path in source_of(kind, name):
            digest.update(path.read_bytes())
    return own, f"+{digest.hexdigest()[:12]}" if others else ""


def _unused(filter_module: str) -> tuple[str, ...]:
    """Modules that stage assimilate imports for other filters than this one: commands, and priors
    where it has no network.
    """
    if filter_module in brought("filters"):
        return ("stages.external",)
    reached = _reached((f"filters.{filter_module}",))
    if "masf.diffusion.denoisers.learned" in reached:
        return ("stages.external",)
    return ("stages.external", *(m for m in _OF_PRIORS if f"masf.{m}" not in reached))


def _of_command(stage: str, system: str) -> str:
    """The code version of a stage that runs a command in place of a filter: it loads no prior."""
    own, others = _parts(system=system)
    return code_version(stage, *own, without=_OF_PRIORS) + others


def simulate_version(system: str) -> str:
    """The code version of stage simulate for one system."""
    own, others = _parts(system=system)
    return code_version("stages.simulate", *own) + others


def assimilate_version(filter_module: str, system: str, command: str | None = None) -> str:
    """The code version of stage assimilate for one filter and system; of a command, its words and
    the files that it names.
    """
    if command is None:
        own, others = _parts(system=system, filter_module=filter_module)
        return code_version("stages.assimilate", *own, without=_unused(filter_module)) + others
    from masf.programs import files_of

    digest = hashlib.sha256(f"{_of_command('stages.assimilate', system)} {command}\n".encode())
    for path in files_of(command):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def tune_version(filter_module: str, system: str, command: str | None = None) -> str:
    """The code version of stage tune for one filter and system."""
    if command is None:
        own, others = _parts(system=system, filter_module=filter_module)
        return code_version("stages.tune", *own, without=_unused(filter_module)) + others
    return (
        f"{_of_command('stages.tune', system)}+{assimilate_version(filter_module, system, command)}"
    )


def train_prior_version(system: str) -> str:
    """The code version of stage train-prior for one system."""
    own, others = _parts(system=system)
    return code_version("stages.train_prior", "files.trained_prior", *own) + others


def with_content(version: str, files: Iterable[Path]) -> str:
    """A code version, and a fingerprint of the content of files that the stage reads besides."""
    found = sorted({content(path) for path in files})
    if not found:
        return version
    return f"{version}+{hashlib.sha256(' '.join(found).encode()).hexdigest()[:12]}"


@cache
def content(path: Path) -> str:
    """The SHA-256 of a file when it is first asked for: one plan is made of one content."""
    return sha256(path)


def software() -> dict[str, str]:
    """Versions of this package, of Python, and of the packages below it that results depend on, as
    they are installed here.
    """
    found = {"masf": __version__, "Python": platform.python_version()}
    for name in ("numpy", "scipy", "torch", "xarray", "netCDF4", "snakemake"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def page_version() -> str:
    """The code version of stage page, its templates included."""
    digest = hashlib.sha256(code_version("stages.page").encode())
    for path in sorted((_PACKAGE / "report" / "templates").iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _path(module: str) -> Path | None:
    base = _PACKAGE.parent / Path(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _tree(module: str) -> ast.Module:
    path = _path(module)
    if path is None:
        raise ValueError(f"no module {module}: expected a file of that name under {_PACKAGE}")
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            node.body = [statement for statement in node.body if not _is_docstring(statement)]
    return tree


def _is_docstring(statement: ast.stmt) -> bool:
    """Whether a statement is nothing but text: the docstring of a module, class or function, or of
    the attribute before it.
    """
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


@cache
def _fingerprint(module: str) -> str:
    return hashlib.sha256(ast.unparse(_tree(module)).encode()).hexdigest()


@cache
def _imports(module: str) -> frozenset[str]:
    """Modules of this package that ``module`` imports anywhere in its code, but for annotations."""
    found: set[str] = set()
    waiting: list[ast.AST] = [_tree(module)]
    while waiting:
        node = waiting.pop()
        # What is imported for annotations only does not run.
        for_annotations = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        waiting.extend(() if for_annotations else ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(m for m in found if m.startswith("masf.") and _path(m) is not None)
