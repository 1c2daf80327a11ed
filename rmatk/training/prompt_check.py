"""What the text tower reads of each class, looked at before anything is computed.

It reads a fixed number of tokens (77 in OpenAI's CLIP) and, with most vocabularies, no capitals. Two classes
whose prompts give the same tokens have the same embedding: no training tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer
from torch import Tensor

from rmatk.backbones.backbone import Backbone
from rmatk_export.tokenizer import export_tokenizer
from rmatk_runtime.bundle.text_cleaning import clean
from rmatk_runtime.errors import DataError

_LISTED = 5


def check_prompts(
    backbone: Backbone, names: Sequence[str], templates: Sequence[str], source: Path
) -> tuple[str, ...]:
    """A note about prompts that are cut.

    Raises:
        DataError: several classes give the same tokens; which, how many tokens, and what is cut.
    """
    prompts = [template.replace("{}", name) for name in names for template in templates]
    tokens = backbone.tokenize(prompts)
    padding = backbone.tokenize([""])[0, -1]
    full = [prompt for prompt, row in zip(prompts, tokens, strict=True) if row[-1] != padding]
    cut = [told for prompt in full if (told := _cut(backbone, prompt, tokens.shape[1])) is not None]
    if same := _alike(names, tokens.view(len(names), -1)):
        listed = "; ".join(" and ".join(map(repr, group)) for group in same[:_LISTED])
        raise DataError(
            f"the text tower reads the same of these classes of {source}: {listed}"
            + (f"; it reads {tokens.shape[1]} tokens: {'; '.join(cut[:_LISTED])}" if cut else ""),
            "give them shorter or other names: --class-names FILE with lines of code,name",
        )
    if not cut:
        return ()
    return (
        f"{len(cut)} prompts are longer than the {tokens.shape[1]} tokens that the text tower reads: "
        + "; ".join(cut[:_LISTED]),
    )


def _alike(names: Sequence[str], rows: Tensor) -> list[list[str]]:
    """Groups of names whose rows (C, T * context) are equal."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, row in zip(names, rows.tolist(), strict=True):
        groups.setdefault(tuple(row), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _cut(backbone: Backbone, prompt: str, context: int) -> str | None:
    """What is lost of a prompt; None where it fits exactly."""
    if backbone.tokenizer_json is not None:
        text, fast = prompt, Tokenizer.from_str(backbone.tokenizer_json)
    else:
        exported = export_tokenizer(backbone.tokenize)
        text, fast = clean(prompt, exported.cleaning), Tokenizer.from_str(exported.json)
    fast.no_truncation()
    fast.no_padding()
    whole = fast.encode(text)
    if len(whole.ids) <= context:
        return None
    special = sum(whole.special_tokens_mask[1:])  # at the end: kept
    start = whole.offsets[context - special][0]
    shown = repr(prompt if len(prompt) <= 60 else prompt[:57] + "...")
    return f"{len(whole.ids)} tokens in {shown}, cut: {text[start:]!r}"
