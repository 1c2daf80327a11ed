"""CoOp's benchmark data sets: how each is recognised, where its photos are, and its prompt.

From CoOp (Zhou et al., IJCV 2022; github.com/KaiyangZhou/CoOp): ``DATASETS.md`` gives the folders,
``datasets/*.py`` the folder that the paths of a split file are relative to, ``trainers/zsclip.py`` the
prompts, which are CLIP's own. Every later method of this line, RMAdapter's paper included, is measured on
these.
"""

from __future__ import annotations

from dataclasses import dataclass

PHOTO = "a photo of a {}."


@dataclass(frozen=True)
class Benchmark:
    """One data set: ``folder`` below the folder of all; in it its ``split`` file and ``photos``."""

    name: str
    folder: str
    split: str
    photos: str
    template: str


SPLIT_FILES: tuple[Benchmark, ...] = (
    Benchmark("Caltech101", "caltech-101", "split_zhou_Caltech101.json", "101_ObjectCategories", PHOTO),
    Benchmark(
        "OxfordPets",
        "oxford_pets",
        "split_zhou_OxfordPets.json",
        "images",
        "a photo of a {}, a type of pet.",
    ),
    Benchmark("StanfordCars", "stanford_cars", "split_zhou_StanfordCars.json", "", PHOTO),
    Benchmark(
        "Flowers102",
        "oxford_flowers",
        "split_zhou_OxfordFlowers.json",
        "jpg",
        "a photo of a {}, a type of flower.",
    ),
    Benchmark("Food101", "food-101", "split_zhou_Food101.json", "images", "a photo of {}, a type of food."),
    Benchmark("SUN397", "sun397", "split_zhou_SUN397.json", "SUN397", PHOTO),
    Benchmark(
        "UCF101",
        "ucf101",
        "split_zhou_UCF101.json",
        "UCF-101-midframes",
        "a photo of a person doing {}.",
    ),
    Benchmark("DTD", "dtd", "split_zhou_DescribableTextures.json", "images", "{} texture."),
    Benchmark("EuroSAT", "eurosat", "split_zhou_EuroSAT.json", "2750", "a centered satellite photo of {}."),
)
AIRCRAFT = Benchmark(
    "FGVCAircraft", "fgvc_aircraft", "variants.txt", "images", "a photo of a {}, a type of aircraft."
)
"""Comes with lists of its own, ``variants.txt`` and ``images_variant_{train,val,test}.txt``."""
IMAGENET = Benchmark("ImageNet", "imagenet", "classnames.txt", "images", PHOTO)
"""Folders by WordNet id; so are -Sketch, -A and -R, while -V2's are numbered. All use this prompt."""

BENCHMARKS: tuple[Benchmark, ...] = (IMAGENET, *SPLIT_FILES, AIRCRAFT)
"""The eleven."""


def of_split_file(name: str) -> Benchmark | None:
    """The data set whose split file has this name, or None: somebody's own split in the same format."""
    return next((benchmark for benchmark in SPLIT_FILES if benchmark.split == name), None)
