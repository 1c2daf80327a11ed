"""Captions: a small grammar with synonyms and varied templates.

Every caption names several attributes. Contrastive training treats each other caption of a batch as wrong, so
two short captions alike ("a gear") would teach that a gear is not a gear. Each further attribute makes such a
clash rarer, and lets the text tower learn words for colour, material, background and light as well. But too
many spoil it: a batch that colour, fill, background and light tell apart teaches no outlines. So an object's
caption names its kind, mostly with one or two further attributes, and many say size or light alone;
batches never hold one kind twice (tools/micro_pool.py).
"""

from __future__ import annotations

import numpy as np

from rmatk.scenes.aerial import AERIAL
from rmatk.scenes.background import BACKGROUNDS
from rmatk.scenes.colours import COLOURS
from rmatk.scenes.draw import pick
from rmatk.scenes.kinds import KINDS
from rmatk.scenes.render import Scene

_FILL_WORDS: dict[str, tuple[str, ...]] = {
    "solid": ("solid", "plain", "painted"),
    "striped": ("striped",),
    "zigzag": ("zigzag", "zigzag patterned"),
    "dotted": ("dotted", "spotted", "polka dot"),
    "checkered": ("checkered", "chequered"),
    "gradient": ("gradient", "fading"),
    "metal": ("metal", "metallic", "shiny metal"),
    "glass": ("glass", "transparent glass"),
    "cardboard": ("cardboard", "corrugated cardboard"),
    "paper": ("paper", "crumpled paper"),
    "plastic": ("plastic", "glossy plastic"),
    "wooden": ("wooden", "wood"),
    "fabric": ("fabric", "woven", "cloth"),
    "stone": ("stone", "rough stone"),
    "marble": ("marble", "veined marble"),
    "leather": ("leather",),
    "rusty": ("rusty", "corroded"),
    "glittery": ("glittery", "sparkling"),
}

_COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "turquoise": ("turquoise", "cyan"),
    "purple": ("purple", "violet"),
    "grey": ("grey", "gray"),
}

_MADE_OF: dict[str, str] = {
    "metal": "metal",
    "glass": "glass",
    "cardboard": "cardboard",
    "paper": "paper",
    "plastic": "plastic",
    "wooden": "wood",
    "fabric": "cloth",
    "stone": "stone",
    "marble": "marble",
    "leather": "leather",
    "striped": "stripes",
    "dotted": "dots",
    "checkered": "checks",
    "zigzag": "zigzags",
}
_PATTERNED = ("striped", "dotted", "checkered", "zigzag")

_LIGHT_WORDS: dict[str, tuple[str, ...]] = {
    "even": ("in even light", "in daylight"),
    "bright": ("brightly lit", "in bright light"),
    "dim": ("in dim light", "in the dark"),
    "warm": ("in warm light", "in lamp light"),
    "cool": ("in cool light", "in cold light"),
    "side": ("lit from the side", "in side light"),
    "spot": ("under a spotlight", "in a spot of light"),
}

_PHOTO = (
    "a photo of {}",
    "a photo of {}",
    "a picture of {}",
    "an image of {}",
    "a close photo of {}",
    "a photograph of {}",
    "{}",
    "{}",
    "this is {}",
    "a shot of {}",
)
_CLOSE = (
    "a close-up of {}",
    "the texture of {}",
    "a surface of {}",
    "a photo of {}",
    "a macro photo of {}",
    "a piece of {}",
)
_ABOVE = (
    "an aerial photo of {}",
    "a satellite image of {}",
    "a view from above of {}",
    "a photo of {}",
    "an aerial view of {}",
    "{} seen from the air",
)
_PIECES = ("a piece of {}", "a scrap of {}", "some {}", "a lump of {}", "a bit of {}", "{}")
_ON = ("on", "in front of", "lying on", "before", "over", "with a background of", "against")


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One caption of the scene; which attributes it names, in which words, is drawn."""
    if scene.mode == "aerial":
        body = _fill_in(rng, _ABOVE, pick(rng, AERIAL[scene.background].words))
        body += _light(scene, rng, 0.6)
    elif scene.mode == "closeup":
        body = _fill_in(rng, _CLOSE, f"{colour_word(scene.colour, rng)} {pick(rng, _FILL_WORDS[scene.fill])}")
        body += _light(scene, rng, 0.4)
    elif scene.mode == "piece":
        phrase = pick(rng, _PIECES).format(
            f"{colour_word(scene.colour, rng)} {pick(rng, _FILL_WORDS[scene.fill])}"
        )
        if rng.uniform() < 0.8:
            phrase += f" {pick(rng, _ON)} {backdrop_words(scene.background, rng)}"
        body = _fill_in(rng, _PHOTO, phrase) + _light(scene, rng, 0.4)
    else:
        body = _object(scene, rng)
    return body + ("." if rng.uniform() < 0.7 else "")


def prompt(kind: str, colour: str | None = None, fill: str | None = None) -> str:
    """The evaluation prompt: "a photo of a red striped gear." or, for the kind alone, "a photo of a
    gear.".
    """
    words = [w for w in (colour, fill, kind) if w]
    return f"a photo of {_article(' '.join(words))}."


def colour_word(colour: str, rng: np.random.Generator) -> str:
    """A word for the colour: mostly its own name."""
    return pick(rng, _COLOUR_WORDS.get(colour, (colour,)))


def backdrop_words(name: str, rng: np.random.Generator) -> str:
    """Words for a background: its own, or those of a plain one in a colour."""
    if name in COLOURS:
        return pick(rng, (f"a plain {name} background", f"{_article(name)} background", f"{name}"))
    return pick(rng, BACKGROUNDS[name].words)


def _article(phrase: str) -> str:
    if phrase.startswith(("glasses", "scissors", "pliers")):
        return phrase
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _fill_in(rng: np.random.Generator, templates: tuple[str, ...], phrase: str) -> str:
    return pick(rng, templates).format(phrase)


def _light(scene: Scene, rng: np.random.Generator, chance: float) -> str:
    words = []
    if rng.uniform() < (chance if scene.lighting != "even" else chance * 0.4):
        words.append(pick(rng, _LIGHT_WORDS[scene.lighting]))
    if scene.blur > 0.9 and rng.uniform() < 0.4:
        words.append(pick(rng, ("blurry", "out of focus")))
    if scene.noise > 0.04 and rng.uniform() < 0.4:
        words.append(pick(rng, ("grainy", "noisy")))
    return "".join(f", {w}" for w in words)


def _object(scene: Scene, rng: np.random.Generator) -> str:
    """Name the kind, and up to three of colour, fill and background, or size and light."""
    u = rng.uniform()
    # where colour, fill and background tell a scene apart, nobody learns its outline: many captions
    # say size or light instead
    bare = u < 0.42
    named: set[str] = set()
    if 0.42 <= u < 0.6:
        named = {pick(rng, ("colour", "fill", "background"))}
    elif 0.6 <= u < 0.88:
        named = {"colour", "fill"}
    elif u >= 0.88:
        named = {"colour", "fill", "background"}
    words = _size(scene, rng)
    name = scene.kind if rng.uniform() < 0.65 else pick(rng, KINDS[scene.kind].synonyms)
    tail = ""
    if "fill" in named:
        if scene.fill in _MADE_OF and rng.uniform() < 0.2:
            tail = f" {'with' if scene.fill in _PATTERNED else 'made of'} {_MADE_OF[scene.fill]}"
        else:
            words.append(scene.fill if rng.uniform() < 0.6 else pick(rng, _FILL_WORDS[scene.fill]))
    if "colour" in named:
        words.insert(
            len(words) - (1 if rng.uniform() < 0.85 and words and not tail and "fill" in named else 0),
            colour_word(scene.colour, rng),
        )
    phrase = _article(" ".join([*words, name])) + tail
    if "background" in named:
        phrase += f" {pick(rng, _ON)} {backdrop_words(scene.background, rng)}"
    light = _light(scene, rng, 0.6 if bare else 0.15)
    if bare and not words and not light:
        light = f", {pick(rng, _LIGHT_WORDS[scene.lighting])}"
    return _fill_in(rng, _PHOTO, phrase) + light


def _size(scene: Scene, rng: np.random.Generator) -> list[str]:
    if rng.uniform() < 0.2 and not 0.75 < scene.size < 0.9:
        return [pick(rng, ("large", "big") if scene.size > 0.82 else ("small", "little"))]
    return []
