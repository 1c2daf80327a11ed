"""Every name of a visible thing, what it should mean in the joint space, and how often to learn it.

A name with several visible meanings gets their mean, weighted by how often each is meant. Phrases that
WordNet does not list (captions, "a red cup", "a satellite photo of a river") get their vector from a small
network that carries MiniLM's sentence vectors to the joint space, fitted on all names and on captions.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from wordnet import WordNet

TEMPLATES = (
    "a photo of a {}.", "a photo of a {}.", "{}", "a {}", "a photo of the {}.", "a photo of {}.", "the {}",
    "a close-up photo of a {}.", "a picture of a {}", "a photo of a {}, a type of object.", "{}s",
    "a good photo of a {}.", "a photo of one {}.", "a photo of many {}.", "a centered satellite photo of {}.",
    "itap of a {}.", "an image of a {}.", "a blurry photo of a {}.", "a bright photo of the {}.",
)  # fmt: skip
ADJECTIVES = (
    "red", "green", "blue", "yellow", "white", "black", "brown", "grey",
    "orange", "pink", "purple", "golden", "silver", "dark", "bright", "wooden",
    "metal", "plastic", "glass", "paper", "cardboard", "leather", "steel", "rubber",
    "stone", "ceramic", "cotton", "brick", "broken", "empty", "crushed", "used",
    "old", "new", "dirty", "clean", "folded", "torn", "small", "large",
    "round", "square", "striped",
)  # fmt: skip
SCENES = (
    "satellite photo of {}", "aerial view of {}", "{} seen from above", "a {} on a white background",
    "a {} on a table", "a pile of {}", "{} in the grass", "a {} in a box", "a piece of {}", "some {}",
)  # fmt: skip
LAND = (
    "annual crop land, permanent crop land, pasture land, herbaceous vegetation land, farmland, "
    "cropland, vineyard, orchard, forest, woodland, river, lake, sea, sea or lake, open water, "
    "highway, road, highway or road, residential buildings, residential area, houses, suburb, "
    "industrial buildings, factory, warehouses, harbour, airport, runway, bridge, desert, beach, "
    "mountain, snow, meadow, grassland, shrubland, wetland, bare soil, parking lot, stadium, "
    "golf course, greenhouse, solar panels, quarry, railway, clouds"
)
WASTE = (
    "trash, garbage, rubbish, litter, waste, cardboard, cardboard box, glass, glass bottle, broken glass,"
    "metal, metal can, tin can, aluminium can, paper, newspaper, sheet of paper, crumpled paper, plastic,"
    "plastic bottle, plastic bag, plastic cup, food wrapper, food waste, general waste, battery,"
    "electronic waste, jar, carton"
)
FILE_WEIGHT = {5: 1.0, 6: 1.2, 13: 0.8, 17: 1.0, 20: 0.5, 27: 0.6}


@dataclass(frozen=True)
class Lexicon:
    """``names`` (N), their ``vectors`` (N, 256), unit length, and ``weights`` (N,) to draw them by."""

    names: list[str]
    vectors: Tensor
    weights: Tensor


def lexicon(wordnet: WordNet, vectors: dict[int, Tensor], classes: set[int]) -> Lexicon:
    """All names of the synsets in ``vectors`` (256,); ImageNet's ``classes`` are drawn more often."""
    senses: dict[str, list[tuple[float, int]]] = {}
    for offset in vectors:
        for lemma in wordnet.synsets[offset].lemmas:
            name = lemma.lower()
            order = wordnet.senses.get(name, (offset,))
            rank = order.index(offset) if offset in order else len(order)
            weight = wordnet.counts.get((name, offset), 0) + 1 / (1 + rank) + 2 * (offset in classes)
            senses.setdefault(name, []).append((weight, offset))
    names = sorted(senses)
    mixed, weights = [], []
    for name in names:
        mean = torch.stack([w * vectors[o] for w, o in senses[name]]).sum(0)
        mixed.append(F.normalize(mean, dim=0))
        best = max(senses[name])[1]
        count = sum(wordnet.counts.get((name, o), 0) for _, o in senses[name])
        latin = wordnet.synsets[best].lemmas[0][0].isupper() and " " in name
        weights.append(
            FILE_WEIGHT.get(wordnet.synsets[best].file, 0.5)
            * (1 + np.log1p(count) + 8 * any(o in classes for _, o in senses[name]))
            * (0.3 if latin or len(name.split()) > 2 else 1.0)
        )
    return Lexicon(names, torch.stack(mixed), torch.tensor(weights))


def phrases(lexicon_: Lexicon, count: int, rng: np.random.Generator) -> list[str]:
    """Phrases of an adjective and a name, scenes, land and waste: ``count`` drawn ones and all fixed ones."""
    chance = (lexicon_.weights / lexicon_.weights.sum()).double().numpy()
    drawn = rng.choice(len(chance), size=count, p=chance / chance.sum())
    out = []
    for index in drawn:
        name = lexicon_.names[index]
        if rng.random() < 0.3:
            out.append(str(rng.choice(SCENES)).format(name))
        else:
            out.append(f"{rng.choice(['a ', 'the ', ''])}{rng.choice(ADJECTIVES)} {name}")
    fixed = [word.strip() for word in (LAND + "," + WASTE).split(",")]
    return out + [t.format(word) for word, t in itertools.product(fixed, TEMPLATES + SCENES)]


class PhraseTeacher(nn.Module):
    """MiniLM's vectors (N, 384) -> the joint space (N, 256), unit length."""

    def __init__(self, hidden: int = 1536) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(384, hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, 256)
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return F.normalize(self.layers(x * 384**0.5), dim=-1)

    def fit(self, x: Tensor, y: Tensor, weights: Tensor, steps: int = 3000, batch: int = 1024) -> float:
        """Fit pairs (N, 384) and (N, 256), drawn by ``weights`` (N,). Returns the last mean cosine."""
        optimiser = torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
        self.train()
        recent = 0.0
        for _ in range(steps):
            rows = torch.multinomial(weights, batch, replacement=True)
            cosine = (self(x[rows]) * y[rows]).sum(1).mean()
            optimiser.zero_grad()
            (1 - cosine).backward()
            optimiser.step()
            schedule.step()
            recent = 0.98 * recent + 0.02 * float(cosine)
        self.eval().requires_grad_(False)
        return recent
