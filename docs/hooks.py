"""Documents of the repository that are not in docs/ become pages, and links work there as they do in the repository."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
PAGES = {
    "configuration.md": "config/README.md",
    "files.md": "results/README.md",
    "benchmarks.md": "benchmarks/README.md",
    "changelog.md": "CHANGELOG.md",
}
"""Pages, and the files that they are made of."""
MODULES = "modules.md"
"""Where links to the package's modules lead."""
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are made of files elsewhere."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
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
        inside = known.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
        # Anything else is in the repository only: its name stays, without a link.
        return f"]({relative(inside)}{match[2] or ''})" if inside else "]{ }"

    return LINK.sub(replaced, markdown).replace("]{ }", "]")
