"""Hooks of MkDocs: pages of the site that lie elsewhere in the repository, and links to its other files.

The README's sections from "Try it" to "Read on" are the page "Quick start", so that they are written once.
Links work in the repository and on the site: those to files that are no pages lead to the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
QUICK_START = "QUICKSTART.md"
# Pages of the site by their place in the repository.
ELSEWHERE = {
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "rmatk/backbones/micro/MODEL_CARD.md": "MODEL_CARD.md",
}
_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")


def quick_start() -> str:
    """The README's sections from "Try it" up to "Read on", as a page."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return "# Quick start\n\n" + readme[readme.index("## Try it") : readme.index("## Read on")]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside the folder of documents."""
    files.append(File.generated(config, QUICK_START, content=quick_start()))
    for place, page in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / place)))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Point each relative link at the page of the site, or at the file in the repository."""
    source = page.file.src_uri
    places = {page: place for place, page in ELSEWHERE.items()}
    folder = posixpath.dirname("README.md" if source == QUICK_START else places.get(source, f"docs/{source}"))

    def replace(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        inside = ELSEWHERE.get(target) or target.removeprefix("docs/")
        if files.get_file_from_path(inside) is not None and (target in ELSEWHERE or target != inside):
            link = posixpath.relpath(inside, posixpath.dirname(source) or ".")
        elif (ROOT / target).exists():
            kind = "tree" if (ROOT / target).is_dir() else "blob"
            link = f"{config.repo_url}/{kind}/main/{target}"
        else:
            link = match[2]  # MkDocs names it as broken
        return f"{match[1]}{link}{match[3] or ''}{match[4]}"

    return _LINK.sub(replace, markdown)
