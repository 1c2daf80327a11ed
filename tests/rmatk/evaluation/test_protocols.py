from __future__ import annotations

import math
import re
import statistics
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch

from rmatk.config import LOSS_WEIGHTS, TrainConfig
from rmatk.data.formats import Splits, open_splits
from rmatk.data.photos import image_batches, read_folder
from rmatk.data.shots import few_shot
from rmatk.evaluation.features import FrozenFeatures
from rmatk.evaluation.methods import ABLATIONS, METHODS, Task
from rmatk.evaluation.protocol_tables import cells, csv_text, headings, markdown, title
from rmatk.evaluation.protocols import (
    base_to_new,
    cross_dataset,
    few_shot_accuracy,
    halves,
    harmonic_mean,
)
from rmatk.method.model import AdaptedClip
from rmatk.training.train import train
from rmatk_runtime.errors import DataError

CLASSES = ("red_stripe", "green_check", "blue_dot", "grey_cross", "old_hat")
CONFIG = TrainConfig(shots=3, epochs=2, lr=0.02, rank=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory, draw_photos) -> Splits:
    """Five classes, in order: blue dot, green check, grey cross; old hat, red stripe."""
    root = tmp_path_factory.mktemp("drawn")
    draw_photos(root / "train", dict.fromkeys(CLASSES, 5))
    draw_photos(root / "test", {name: 2 + n for n, name in enumerate(CLASSES)})
    return open_splits(root)


@pytest.fixture(scope="module")
def result(tiny, data):
    return base_to_new(tiny, data, CONFIG, [1, 2], list(METHODS))


def test_the_first_half_is_base_and_the_odd_class_with_it(data):
    base, new = halves(data.train)
    assert base.class_names == ("blue dot", "green check", "grey cross")
    assert new.class_names == ("old hat", "red stripe")
    assert new.files[1] == data.train.files[4]
    with pytest.raises(DataError, match="at least 4 classes"):
        halves(base)


@pytest.mark.parametrize(
    ("base", "new", "expected"), [(0.8452, 0.7736, 0.80782), (0.0, 0.0, 0.0), (0.5, None, None)]
)
def test_harmonic_mean(base, new, expected):
    assert harmonic_mean(base, new) == (None if expected is None else pytest.approx(expected, abs=1e-5))


def test_zero_shot_is_open_clip_among_each_halfs_own_classes(tiny, data, result):
    (zero,) = [m for m in result.methods if m.method == "zero-shot"]
    for column, half in zip(("base", "new"), halves(data.test), strict=True):
        files, labels = half.flat()
        (images,) = image_batches(files, tiny.preprocess, 100)
        prompts = tiny.tokenize([f"a photo of a {name}." for name in half.class_names])
        with torch.no_grad():
            image = tiny.model.encode_image(torch.from_numpy(images), normalize=True)
            logits = image @ tiny.model.encode_text(prompts, normalize=True).T
        expected = float(np.mean(logits.argmax(dim=-1).numpy() == np.array(labels)))
        assert zero.mean[column] == pytest.approx(expected)
        assert zero.sd[column] == 0


def test_hm_is_taken_per_seed_then_averaged(result):
    for method in result.methods:
        for seed in method.per_seed:
            assert seed.values["hm"] == harmonic_mean(seed.values["base"], seed.values["new"])
        for column in result.columns:
            values = [seed.values[column] for seed in method.per_seed]
            if None not in values:
                assert method.mean[column] == pytest.approx(sum(values) / 2)
                assert method.sd[column] == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
    assert [s.seed for s in result.methods[0].per_seed] == [1, 2]


def test_what_a_method_cannot_say_is_left_empty(result):
    means = {m.method: m.mean for m in result.methods}
    assert means["linear-probe"]["base"] is not None
    assert means["linear-probe"]["new"] is None
    assert means["linear-probe"]["hm"] is None
    assert means["tip-adapter"]["new"] == means["tip-adapter-f"]["new"] == means["zero-shot"]["new"]


def test_the_record_says_what_was_compared(tiny, result):
    assert result.backbone_digest == tiny.digest
    assert (result.train_classes, result.train_images) == (3, 9)
    assert [(t.column, t.classes, t.images) for t in result.tests] == [("base", 3, 12), ("new", 2, 8)]
    assert {m.method: m.terms for m in result.methods}["adapter-only"] == dict.fromkeys(LOSS_WEIGHTS, 0)
    assert msgspec.json.decode(msgspec.json.encode(result), type=type(result)) == result


def test_rmadapter_is_what_rmatk_train_trains(tiny, data, tmp_path):
    run = train(msgspec.structs.replace(CONFIG, seed=7), tiny, data.train.root, tmp_path / "run")
    model = AdaptedClip(tiny, CONFIG, torch.Generator())
    model.load_adapter_state(run.adapter)
    features = FrozenFeatures(tiny, CONFIG)
    shots = few_shot(data.train, CONFIG.shots, 7).train
    config = msgspec.structs.replace(CONFIG, seed=7)
    classify = METHODS["rmadapter"](Task(features, shots, CONFIG.templates, config))(
        data.test.class_names, CONFIG.templates
    )
    (images,) = image_batches(data.test.flat()[0], tiny.preprocess, 100)
    images = torch.from_numpy(images)
    names = data.test.class_names
    expected, frozen = (
        model.encode_images(images, frozen=f) @ model.class_embeddings(names, CONFIG.templates, frozen=f).T
        for f in (False, True)
    )
    assert not torch.allclose(expected, frozen, atol=1e-3)
    torch.testing.assert_close(classify(features.all(data.test)), expected, atol=1e-5, rtol=0)


def test_every_ablation_trains_other_weights(tiny, data):
    features = FrozenFeatures(tiny, CONFIG)
    config = msgspec.structs.replace(
        CONFIG, image_rec_weight=5.0, text_rec_weight=5.0, image_con_weight=0.5, text_con_weight=0.5
    )
    shots = few_shot(data.train, CONFIG.shots, 1).train
    images = features.all(data.test)
    found = [
        METHODS[name](Task(features, shots, CONFIG.templates, config))(data.test.class_names, ("{}",))(images)
        for name in ABLATIONS
    ]
    for one in range(len(found)):
        for other in range(one):
            assert not torch.equal(found[one], found[other]), (one, other)


def test_a_linear_probe_puts_its_columns_in_the_order_asked_for(tiny, data):
    features = FrozenFeatures(tiny, CONFIG)
    shots = few_shot(data.train, CONFIG.shots, 1).train
    fitted = METHODS["linear-probe"](Task(features, shots, CONFIG.templates, CONFIG))
    images, names = features.all(data.test), data.train.class_names
    whole, some = fitted(names, ("{}",))(images), fitted((names[3], names[1]), ("{}",))(images)
    assert torch.equal(some, whole[:, [3, 1]])


def test_tip_adapters_shots_vote_for_their_class_by_name(tiny, data):
    features = FrozenFeatures(tiny, CONFIG)
    shots = few_shot(data.train, CONFIG.shots, 1).train
    fitted = METHODS["tip-adapter"](Task(features, shots, CONFIG.templates, CONFIG))
    images, names = features.all(data.test), data.train.class_names
    whole = fitted(names, ("{}",))(images)
    torch.testing.assert_close(fitted((names[3], names[1]), ("{}",))(images), whole[:, [3, 1]])


def test_photos_are_read_once_for_all_seeds_and_methods(tiny, data):
    read = []

    def counting(what: str, done: int, total: int) -> None:
        if found := re.search(r"photos (\d+) of \1$", what):
            read.append(int(found[1]))

    few_shot_accuracy(tiny, data, CONFIG, [1, 2, 3], ["zero-shot", "tip-adapter", "rmadapter"], counting)
    drawn = {file for seed in (1, 2, 3) for file in few_shot(data.train, 3, seed).train.flat()[0]}
    assert sum(read) == len(drawn) + len(data.test.flat()[0])


def test_past_the_budget_photos_are_read_again_and_give_the_same(tiny, data):
    ample = FrozenFeatures(tiny, CONFIG).all(data.test)
    row = (ample.x[0].nbytes + ample.frozen[0].nbytes) * 3
    read = []
    tight = FrozenFeatures(
        tiny,
        CONFIG,
        budget=row,
        on_progress=lambda what, done, total: read.append(total if done == total else 0),
    )
    for _ in range(2):
        again = tight.all(data.test)
        for name in ("x", "frozen", "labels"):
            torch.testing.assert_close(getattr(again, name), getattr(ample, name))
    assert sum(read) == 2 * len(data.test.flat()[0]) - 3


def test_cross_dataset_has_each_targets_own_classes_and_the_average_over_targets(tiny, data):
    target = data.test.select([4, 0])
    other = data.test.select([1, 2, 3])
    result = cross_dataset(
        tiny, data, {"two": target, "three": other}, CONFIG, [1], ["zero-shot", "linear-probe", "rmadapter"]
    )
    assert result.columns == (data.name, "two", "three", "average")
    for method in result.methods:
        values = method.per_seed[0].values
        assert values["average"] == statistics.fmean([values["two"], values["three"]])
        assert method.sd["average"] is None
    assert [t.classes for t in result.tests] == [5, 2, 3]


def test_a_target_needs_classes_of_the_source_under_domain_only(tiny, data, photos):
    (photos / "blue_dot").rename(photos / "a_rose")
    targets = {"roses": read_folder(photos)}
    cross = cross_dataset(tiny, data, targets, CONFIG, [1], ["linear-probe", "tip-adapter"])
    assert cross.methods[0].mean["roses"] is None
    assert cross.methods[0].mean["average"] is None
    assert cross.methods[1].mean["roses"] is not None
    with pytest.raises(DataError, match="not known: a rose"):
        cross_dataset(tiny, data, targets, CONFIG, [1], ["zero-shot"], protocol="domain")
    with pytest.raises(DataError, match="needs targets"):
        cross_dataset(tiny, data, {}, CONFIG, [1], ["zero-shot"])


def test_a_benchmarks_own_prompt_goes_before_the_configurations(tiny, data):
    own = "{} texture."
    textures = Splits(data.name, replace(data.train, template=own), replace(data.test, template=own))
    told = msgspec.structs.replace(CONFIG, templates=(own,))
    first = few_shot_accuracy(tiny, textures, CONFIG, [1], ["zero-shot", "rmadapter"])
    second = few_shot_accuracy(tiny, data, told, [1], ["zero-shot", "rmadapter"])
    assert first.methods == second.methods
    assert first.templates == (own,)


def test_tables_show_every_method(result):
    assert headings(result) == ("method", "base", "new", "HM")
    rows = {row[0]: row for row in cells(result)}
    assert tuple(rows) == tuple(METHODS)
    assert rows["linear-probe"][2:] == ("-", "-")
    mean, sd = result.methods[-1].mean["base"], result.methods[-1].sd["base"]
    assert rows[result.methods[-1].method][1] == f"{100 * mean:.1f} ± {100 * sd:.1f}"
    text = markdown(result)
    assert text.startswith(f"{title(result)}.")
    assert f"| linear-probe | {rows['linear-probe'][1]} | - | - |" in text
    lines = csv_text(result).splitlines()
    assert lines[0] == "method,seed,base,new,hm"
    assert len(lines) == 1 + 4 * len(METHODS)
    assert lines[5].startswith("linear-probe,1,")
    assert lines[5].endswith(",,")


def test_augmentation_is_refused_rather_than_ignored(tiny, data):
    config = msgspec.structs.replace(CONFIG, augment=True)
    with pytest.raises(DataError, match="without augmentation"):
        few_shot_accuracy(tiny, data, config, [1], ["zero-shot"])
