"""The documents: each block of code is run or checked, or says why it is not; and the site builds
without a dead link.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import click
import pytest
import yaml
from markdown_it import MarkdownIt
from pydantic import TypeAdapter

from masf.cli import commands
from masf.study.config import StudyConfig
from masf.study.filter_files import FilterDefinition
from masf.study.tuned_values import TunedValues

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "*/README.md", "docs/**/*.md")
    for path in ROOT.glob(pattern)
    if not path.relative_to(ROOT).parts[0].startswith(".")
)
PERFORMED = {"docs/adding-a-filter.md"}
"""Documents whose files are written and whose studies are run by a test of their own."""
NO_CODE = {"text"}
RUN = {"run", "list", "show", "study"}
"""Subcommands that are quick enough to be run; the others are parsed."""


@dataclass
class Block:
    document: str
    line: int
    language: str
    text: str
    before: str
    """The paragraph or comment just before it."""

    @property
    def not_run(self) -> str | None:
        """Why it is not run."""
        found = re.search(r"<!-- not run: (.+?) -->\s*$", self.before)
        return found and found[1]

    @property
    def file(self) -> str | None:
        """The file that it is the content of."""
        found = re.fullmatch(r"`([^`\n]+)`:", self.before.strip())
        return found and found[1]

    @property
    def commands(self) -> list[list[str]]:
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def blocks(document: str) -> list[Block]:
    text = (ROOT / document).read_text(encoding="utf-8")
    found, before = [], ""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            found.append(Block(document, token.map[0] + 1, token.info, token.content, before))
        if token.content:
            before = token.content
    return found


ALL = [block for document in DOCUMENTS for block in blocks(document)]


def test_every_block_has_a_language_that_is_checked() -> None:
    assert len(DOCUMENTS) > 10
    assert {block.document for block in ALL} >= {
        "README.md",
        "config/README.md",
        "docs/tutorial.md",
        "docs/python.md",
    }
    assert [
        f"{b.document}:{b.line}"
        for b in ALL
        if b.language not in {"sh", "python", "yaml", "diff"} | NO_CODE
    ] == []


@pytest.mark.parametrize(
    "block", [b for b in ALL if b.not_run], ids=lambda b: f"{b.document}:{b.line}"
)
def test_block_is_not_run(block: Block) -> None:
    pytest.skip(f"{block.document}:{block.line}: {block.not_run}")


class Reader:
    """Someone who follows documents in a copy of the project."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("masf", "config", "workflow"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "Makefile", root)
        # What documents call a study of one's own.
        shutil.copy(ROOT / "config" / "quick.yaml", root / "my.yaml")
        self.done: dict[tuple[str, ...], str] = {}
        self.environment = os.environ | {
            "PYTHONPATH": str(root), "XDG_CACHE_HOME": str(root / "cache"), "OMP_NUM_THREADS": "1",
        }  # fmt: skip

    def run(self, words: list[str]) -> str:
        """What a command of masf prints; the same command is run once."""
        key = tuple(words)
        if key not in self.done:
            done = subprocess.run(  # noqa: S603
                [sys.executable, "-c", "from masf.cli import main; main()", *words[1:]],
                cwd=self.root, env=self.environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            self.done[key] = done.stdout
        return self.done[key]

    def check(self, words: list[str]) -> None:
        """Runs a command, or checks it otherwise where it would take long."""
        program, *rest = words
        if program == "masf":
            if rest[0] in RUN:
                self.run(words)
            else:
                commands.commands[rest[0]].make_context(rest[0], rest[1:])
        elif program == "make":
            self._check_make(rest)
        elif program == "snakemake":
            self._check_snakemake(rest)
        else:
            pytest.fail(
                f"{shlex.join(words)}: cannot be checked; mark it as not run, with the reason"
            )

    def _check_make(self, words: list[str]) -> None:
        makefile = (self.root / "Makefile").read_text(encoding="utf-8")
        (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
        target, *settings = words
        assert target in phony.split()
        for setting in settings:
            key, _, value = setting.partition("=")
            assert key == "CONFIG"
            self.run(["masf", "study", "--config", value])

    def _check_snakemake(self, words: list[str]) -> None:
        from snakemake.cli import parse_args

        _, options = parse_args(words)
        assert all((ROOT / profile).is_dir() for profile in options.profile or [])
        for path in options.configfile or []:
            assert (self.root / path).is_file()

    def edit(self, block: Block, file: str) -> None:
        """Makes the changes of a diff, whose parts begin with @@: what a part says was there is
        found once.
        """
        path = self.root / file
        text = path.read_text(encoding="utf-8")
        for part in block.text.split("@@\n")[1:]:
            lines = part.splitlines(keepends=True)
            before, after = (
                "".join(line[1:] for line in lines if line[0] != other) for other in "+-"
            )
            assert text.count(before) == 1, before
            text = text.replace(before, after)
        path.write_text(text, encoding="utf-8")

    def add(self, block: Block, file: str, section: str) -> None:
        """Adds a mapping to a section of a YAML file."""
        path = self.root / file
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        content[section] |= yaml.safe_load(block.text)
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(tmp_path_factory.mktemp("reader"))


def check_fragment(text: str) -> None:
    """A part of a config, a filter's file or its tuned values: each key at its top is one of
    theirs, with a value that fits.
    """
    content = yaml.safe_load(text)
    for key, value in content.items():
        files = [
            cls for cls in (StudyConfig, FilterDefinition, TunedValues) if key in cls.model_fields
        ]
        assert files, key
        # ``settings`` is a key of two of them, and its value has to fit one.
        TypeAdapter(
            Union[tuple(cls.model_fields[key].annotation for cls in files)]  # noqa: UP007
        ).validate_python(value)
    assert content


def labels(lines: Iterator[str] | list[str]) -> list[str]:
    """The first column of a table, its heading and rule left out."""
    return [
        re.split(r"\t|\s{2,}", line)[0]
        for line in lines
        if line.strip() and not line.startswith(("FILTER", "---"))
    ]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_blocks_do_what_the_document_says(
    document: str, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(ROOT)
    namespace: dict[str, Any] = {"__name__": document}
    printed = ""
    for block in blocks(document):
        where = f"{document}:{block.line}"
        performed = document in PERFORMED and block.language in {"python", "yaml"}
        if block.not_run or performed:
            continue
        if block.language == "sh":
            for words in block.commands:
                if document in PERFORMED and words[:2] != ["masf", "assimilate"]:
                    continue
                try:
                    reader.check(words)
                except (AssertionError, click.ClickException, SystemExit) as error:
                    pytest.fail(f"{where}: {shlex.join(words)}: {error}")
            printed = (
                reader.done.get(tuple(block.commands[0]), "") if len(block.commands) == 1 else ""
            )
        elif block.language == "text" and printed:
            assert labels(block.text.splitlines()) == labels(printed.splitlines()), where
        elif block.file is not None:
            (reader.root / block.file).write_text(block.text, encoding="utf-8")
        elif edited := re.search(r"<!-- edits: (\S+) -->", block.before):
            reader.edit(block, edited[1])
        elif block.language == "python":
            monkeypatch.chdir(reader.root)
            exec(compile("\n" * block.line + block.text, where, "exec"), namespace)  # noqa: S102
            monkeypatch.chdir(ROOT)
        elif added := re.search(r"<!-- added to: (\S+) (\w+) -->", block.before):
            reader.add(block, added[1], added[2])
        elif block.language == "yaml":
            check_fragment(block.text)


def test_site_builds_without_a_dead_link(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.html")}
    assert len(pages) > 14
    # Formulas are MathML, and none was left as it was written, or came out with a mark of an error.
    assert pages["mathematics.html"].count("<math") > 60
    code = re.compile(r"<(pre|code|script)\b.*?</\1>", flags=re.DOTALL)
    for name, page in pages.items():
        assert not re.search(
            r"\$\$|\\(frac|begin|Sigma)|<merror|<mi>&</mi>|<mi>\\", code.sub("", page)
        ), name
    # The reference comes from the code.
    assert "spin-up-cycles" in pages["commands.html"]
    assert 'id="masf.api.assimilate"' in pages["api.html"]
    assert "Half of the Gaspari-Cohn" in pages["modules.html"]
    assert "saved_members" in pages["configuration.html"]
    assert "saved_members" in pages["keys.html"]
    assert "localization_radius" in pages["keys.html"]
