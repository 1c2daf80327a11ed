from __future__ import annotations

import shutil

import pytest
import torch

from rmatk.config import TrainConfig
from rmatk.data.photos import Dataset, image_batches, read_folder
from rmatk.evaluation.accuracy import evaluate, known_labels
from rmatk.method.model import AdaptedClip
from rmatk_runtime.errors import DataError

NAMES = ("blue dot", "green check", "red stripe", "never seen")
TEMPLATES = ("a photo of a {}.", "{}")


@pytest.fixture
def model(tiny):
    generator = torch.Generator().manual_seed(0)
    model = AdaptedClip(tiny, TrainConfig(rank=4), generator)
    for adapter in (*model.image.blocks.values(), *model.text.blocks.values()):
        torch.nn.init.normal_(adapter.up.weight, std=3.0, generator=generator)
    return model


def test_accuracies_are_those_of_the_features(model, tmp_path, draw_photos):
    dataset = read_folder(draw_photos(tmp_path, {"blue_dot": 3, "green_check": 5, "red_stripe": 9}))
    report = evaluate(model, NAMES, TEMPLATES, dataset, batch=7)
    files, labels = dataset.flat()
    (images,) = image_batches(files, model.backbone.preprocess, 100)
    guessed = []
    for frozen, field in ((False, "accuracy"), (True, "zero_shot_accuracy")):
        features = model.encode_images(torch.from_numpy(images), frozen=frozen)
        guesses = (features @ model.class_embeddings(NAMES, TEMPLATES, frozen=frozen).T).argmax(dim=-1)
        guessed.append(guesses)
        right = [guess == label for guess, label in zip(guesses.tolist(), labels, strict=True)]
        assert getattr(report, field) == pytest.approx(sum(right) / 17)
        assert getattr(report.per_class[1], field) == pytest.approx(sum(right[3:8]) / 5)
    assert not torch.equal(*guessed)
    assert report.images == 17
    assert [c.name for c in report.per_class] == list(NAMES[:3])


def test_zero_shot_is_open_clips_own(model, photos):
    (images,) = image_batches(read_folder(photos).flat()[0], model.backbone.preprocess, 100)
    images = torch.from_numpy(images)
    clip = model.backbone.model
    with torch.no_grad():
        expected = clip.encode_image(images, normalize=True)
    torch.testing.assert_close(model.encode_images(images, frozen=True), expected, atol=1e-6, rtol=0)


def test_classes_are_matched_by_name_not_by_order(model, photos):
    shutil.rmtree(photos / "blue_dot")
    report = evaluate(model, tuple(reversed(NAMES)), TEMPLATES, read_folder(photos))
    whole = evaluate(model, NAMES, TEMPLATES, read_folder(photos))
    assert {c.name: c for c in report.per_class} == {c.name: c for c in whole.per_class}


def test_a_class_the_run_does_not_know_is_named(model, photos):
    (photos / "red_stripe").rename(photos / "red_stripes")
    with pytest.raises(DataError, match="not known: red stripes; known are: blue dot"):
        evaluate(model, NAMES, TEMPLATES, read_folder(photos))


def test_class_embeddings_are_the_unit_mean_over_templates(model):
    with torch.no_grad():
        each = [model.class_embeddings(NAMES, (template,)) for template in TEMPLATES]
    mean = torch.stack(each).mean(0)
    expected = mean / mean.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(model.class_embeddings(NAMES, TEMPLATES), expected, atol=1e-6, rtol=0)


def test_unreadable_photos_are_listed_and_count_nowhere(model, photos):
    readable = {path.name: path for path in (photos / "green_check").iterdir()}
    dataset = read_folder(photos)
    (photos / "green_check" / "3.png").write_bytes(b"not an image")
    report = evaluate(model, NAMES, TEMPLATES, dataset, max_bad=0.05)
    assert report.images == 23
    assert [c.images for c in report.per_class] == [8, 7, 8]
    assert [str(readable["3.png"]) in message for message in report.unreadable] == [True]
    (photos / "green_check" / "3.png").unlink()
    whole = evaluate(model, NAMES, TEMPLATES, read_folder(photos))
    assert (whole.per_class, whole.unreadable) == (report.per_class, ())


def test_classes_of_one_name_keep_their_own_photos(photos):
    dataset = read_folder(photos)
    twins = Dataset(dataset.root, ("crane", "crane", "shark"), dataset.files)
    assert known_labels(twins, twins.class_names) == [0] * 8 + [1] * 8 + [2] * 8
    assert known_labels(twins, ("shark", "crane", "crane")) == [1] * 16 + [0] * 8
