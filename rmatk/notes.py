"""Notes for the user that are no errors, logged as warnings: shown even where logging is not set up."""

from __future__ import annotations

import logging
from collections.abc import Iterable

_log = logging.getLogger(__name__)


def note(texts: Iterable[str]) -> None:
    """Log each text once."""
    for text in dict.fromkeys(texts):
        _log.warning("%s", text)
