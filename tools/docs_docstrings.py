"""Docstrings as Markdown, for mkdocstrings: Sphinx's roles become code marks, doctests become code blocks."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:class|func|meth|data|mod|attr):`~?([^`]+)`")
_DOCTEST = re.compile(r"^>>> .*(?:\n.*\S.*)*", re.MULTILINE)


def _fenced(match: re.Match[str]) -> str:
    return "```pycon\n" + re.sub(r"  # doctest: .*", "", match[0]) + "\n```"


class Docstrings(Extension):
    """Rewrites every docstring as it is loaded."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = _DOCTEST.sub(_fenced, _ROLE.sub(r"`\1`", obj.docstring.value))
