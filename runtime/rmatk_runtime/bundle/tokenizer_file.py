"""Opening a ``tokenizer.json`` from outside.

The tokenizers library is made for files that it wrote itself. Others end in a bare ``Exception``, or in a
panic of its Rust code, which reaches Python as a ``PanicException`` that is no ``Exception``. So what decides
about memory is checked before, and everything that the library raises while it reads the file or encodes with
it is a ``ValueError`` here. What would end the process is met by a trial in another one
(:mod:`rmatk_runtime.onnx_runtime.trial`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from rmatk_runtime.errors import MissingExtraError

LARGEST = 64 << 20  # bytes
_PARTS = frozenset(
    [
        "version",
        "truncation",
        "padding",
        "added_tokens",
        "normalizer",
        "pre_tokenizer",
        "post_processor",
        "decoder",
        "model",
    ]
)
_LARGEST_NUMBER = 1 << 31


def import_tokenizers() -> Any:
    """The tokenizers library. Raises MissingExtraError."""
    try:
        import tokenizers
    except ImportError:
        raise MissingExtraError("tokenizers", "labels") from None
    return tokenizers


def load_tokenizer(path: Path, length: int) -> Any:
    """The tokenizer in a file that cuts and pads every text to ``length`` ids.

    Raises:
        ValueError: no such file, or one that the library does not read.
        MissingExtraError: tokenizers is not installed.
    """
    library = import_tokenizers()
    data = _read(path)
    _check(data, length)
    return _guarded(library.Tokenizer.from_str, data.decode())


def encode_texts(tokenizer: Any, texts: Sequence[str]) -> list[Any]:
    """The tokenizer's encodings of N texts. Raises ValueError where the file makes it fail."""
    return list(_guarded(tokenizer.encode_batch, list(texts)))


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error


def _check(data: bytes, length: int) -> None:
    """What decides how much memory the library takes."""
    try:
        content = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise ValueError(f"not a tokenizer: {error}") from error
    if strange := content.keys() - _PARTS:
        raise ValueError(f"not a tokenizer: it holds {min(strange)[:40]!r}")
    cut, filled = content.get("truncation"), content.get("padding")
    if not isinstance(cut, dict) or cut.get("max_length") != length or cut.get("stride") != 0:
        raise ValueError(f"it does not cut texts to {length} ids")
    if not isinstance(filled, dict) or filled.get("strategy") != {"Fixed": length}:
        raise ValueError(f"it does not pad texts to {length} ids")
    if filled.get("pad_to_multiple_of") is not None:
        raise ValueError(f"it pads texts to more than {length} ids")
    waiting: list[Any] = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, int) and abs(value) >= _LARGEST_NUMBER:
            raise ValueError(f"it holds the number {value}, beyond all ids")


def _guarded(call: Any, *arguments: Any) -> Any:
    """``call`` of the tokenizers library, whose failures share no class but ``BaseException``."""
    try:
        return call(*arguments)
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ValueError(f"the tokenizers library fails on it: {error}") from error
        raise
