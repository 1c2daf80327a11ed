"""Writes the generated parts of the documentation, so that no figure in it can go stale.

    python -m tools.docs              write every block
    python -m tools.docs --check      write nothing; leave with 1 and name the blocks that are out of date

A block stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``. Functions in ``tools.docs_blocks``
give its content from the code. Everything outside the blocks is written by hand.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.docs_blocks import BLOCKS

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"(<!-- generated: (?P<name>[a-z -]+?) -->\n)(?P<content>.*?)(<!-- end -->)", re.DOTALL)


def documents() -> Iterator[Path]:
    """Every Markdown file of the documentation."""
    yield from sorted(ROOT.glob("*.md"))
    yield from sorted((ROOT / "docs").rglob("*.md"))


def stale(*, write: bool) -> list[str]:
    """The blocks whose content is not what the code gives, as ``FILE: NAME``; written again if requested.

    Raises:
        KeyError: a document names a block that no function writes.
    """
    found: list[str] = []
    contents: dict[str, str] = {}
    for path in documents():
        text = path.read_text(encoding="utf-8")

        def fill(match: re.Match[str], path: Path = path) -> str:
            name = match["name"]
            if name not in contents:
                contents[name] = f"\n{BLOCKS[name]().strip()}\n\n"
            if match["content"] != contents[name]:
                found.append(f"{path.relative_to(ROOT)}: {name}")
            return f"{match[1]}{contents[name]}{match[4]}"

        filled = _BLOCK.sub(fill, text)
        if write and filled != text:
            path.write_text(filled, encoding="utf-8")
    return found


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, name what is out of date")
    check = parser.parse_args().check
    found = stale(write=not check)
    for name in found:
        print(f"{'out of date' if check else 'written'}: {name}")
    if check and found:
        print("run: python -m tools.docs", file=sys.stderr)
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
