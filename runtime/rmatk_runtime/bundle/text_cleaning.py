"""Text cleaning before tokenisation: open_clip's functions, without open_clip.

A ``tokenizer.json`` cannot express it: repairing mis-decoded text (``ftfy``) and resolving HTML entities,
also those escaped twice, take more than a table of replacements. So the file starts from cleaned text, and
the manifest names the cleaning that the model was trained with; CLIP's and SigLIP's differ.
"""

from __future__ import annotations

import html
import string
from typing import Literal

from rmatk_runtime.errors import MissingExtraError

Cleaning = Literal["none", "whitespace", "lower", "canonicalize"]

_WITHOUT_PUNCTUATION = str.maketrans("_", " ", string.punctuation.replace("_", ""))


def clean(text: str, cleaning: Cleaning) -> str:
    """``text`` as the tokenizer expects it.

    Args:
        text: any text.
        cleaning: ``none``: as it is; ``whitespace``: repaired, entities resolved, runs of whitespace made one
            space; ``lower``: that in lower case (CLIP); ``canonicalize``: that without ASCII punctuation
            (SigLIP).

    Raises:
        MissingExtraError: ftfy is not installed.
    """
    if cleaning == "none":
        return text
    try:
        import ftfy
    except ImportError:
        raise MissingExtraError("ftfy, which repairs texts before they are tokenised,", "labels") from None
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    if cleaning == "canonicalize":
        text = text.translate(_WITHOUT_PUNCTUATION)
    text = " ".join(text.split())
    return text if cleaning == "whitespace" else text.lower()
