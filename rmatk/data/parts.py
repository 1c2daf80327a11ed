"""What the parts of a data set are called: any usual spelling of train, val and test.

Read off exports and sets in use: ``train``, ``Training``, ``valid``, ``validation``, ``dev``, ``testing``,
``eval``, ``training_set`` (Kaggle), ``val2017``, ``images-train``.
"""

from __future__ import annotations

import re
from typing import Literal

Part = Literal["train", "val", "test"]

_WORDS: dict[str, Part] = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation", "holdout"), "test"),
}
_BESIDE = re.compile("(data)?set|data|images?|imgs?|photos?|pictures?|split|part|partition|folder|samples")
_OF_LISTS = re.compile(f"{_BESIDE.pattern}|labels?|annotations?|classes|list|files|meta(data)?")


def part_of(name: str, *, file: bool = False) -> Part | None:
    """The part that a folder, column value or key of this name holds; None: it names no part.

    ``file``: a list's name without its ending, which may also say that it holds labels.
    """
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold())
    left = "".join(word for word in words if not (_OF_LISTS if file else _BESIDE).fullmatch(word))
    return _WORDS.get(left) or _WORDS.get(re.sub(r"(data|dataset|set|images?|imgs?|photos?)$", "", left))


def fallbacks(part: Part) -> tuple[Part, ...]:
    """Where to look for a part: a set without test part is measured on its val part, as with ImageNet."""
    return ("test", "val") if part == "test" else (part,)
