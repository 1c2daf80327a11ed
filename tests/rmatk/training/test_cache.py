from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

import rmatk.training.cache
from rmatk.config import Execution, TrainConfig
from rmatk.data.photos import read_folder
from rmatk.method.model import AdaptedClip
from rmatk.training.augment import _box, augmented
from rmatk.training.cache import cache_images, cache_texts, class_logits, stream_images
from rmatk.training.fit import fit
from rmatk.training.train import train
from rmatk_runtime.errors import DataError, StorageError

CONFIG = TrainConfig(shots=4, epochs=3, batch=5, lr=0.01, rank=8, precision="fp32")


@pytest.fixture
def model(tiny):
    return AdaptedClip(tiny, CONFIG, torch.Generator().manual_seed(1))


@pytest.fixture
def labelled(photos):
    return read_folder(photos).flat()


def test_disk_holds_what_memory_holds_and_has_no_name(model, labelled, tmp_path):
    spec = model.backbone.preprocess
    memory = cache_images(model, *labelled, spec)
    (tmp_path / "work").mkdir()
    disk = cache_images(model, *labelled, spec, mode="disk", folder=tmp_path / "work")
    assert torch.equal(memory.x, disk.x) and torch.equal(memory.frozen, disk.frozen)
    assert not any((tmp_path / "work").iterdir())
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(tmp_path / "work") in maps.read_text()


@pytest.mark.parametrize(("budget", "on_disk"), [(1 << 20, False), (1 << 10, True)])
def test_auto_goes_to_disk_past_the_budget(model, labelled, tmp_path, monkeypatch, budget, on_disk):
    asked = []
    monkeypatch.setattr(os, "posix_fallocate", lambda *args: asked.append(os.ftruncate(args[0], args[2])))
    monkeypatch.setattr(rmatk.training.cache, "MEMORY_BUDGET", budget)
    cache_images(model, *labelled, model.backbone.preprocess, mode="auto", folder=tmp_path)
    assert bool(asked) == on_disk


def test_a_full_disk_is_named(model, labelled, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match="disk full"):
        cache_images(model, *labelled, model.backbone.preprocess, mode="disk", folder=tmp_path)


def test_every_way_of_caching_trains_the_same(tiny, photos, tmp_path):
    runs = {
        mode: train(CONFIG, tiny, photos, tmp_path / mode, execution=Execution(cache=mode))
        for mode in ("memory", "disk", "off")
    }
    memory = (runs["memory"].path / "metrics.jsonl").read_bytes()
    assert (runs["disk"].path / "metrics.jsonl").read_bytes() == memory
    assert runs["off"].record.metrics == runs["memory"].record.metrics
    losses = [
        [msgspec.json.decode(line)["loss"] for line in (runs[mode].path / "metrics.jsonl").open()]
        for mode in ("off", "memory")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_augmented_photos_differ_by_epoch_and_come_from_the_seed(model, labelled):
    spec = model.backbone.preprocess
    plain = cache_images(model, *labelled, spec)
    chosen = torch.tensor([3, 20, 5])
    streams = [stream_images(model, *labelled, spec, augment=seed) for seed in (1, 1, 2)]
    first, again, other = (stream.batch(chosen, 1)[0] for stream in streams)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, streams[0].batch(chosen, 2)[0])
    torch.testing.assert_close(streams[0].batch(chosen)[0], plain.x[chosen])
    torch.testing.assert_close(streams[0].split(3)[1].batch(torch.tensor([2]))[0], plain.x[[5]])


def test_a_photo_that_cannot_be_read_is_found_before_training(model, labelled):
    files, labels = labelled
    files[3].write_bytes(b"no photo")
    with pytest.raises(DataError, match=files[3].name):
        stream_images(model, files, labels, model.backbone.preprocess)


def test_crops_stay_inside_and_have_the_networks_size(tiny_preprocess):
    rows, columns = np.mgrid[0:40, 0:200]
    image = Image.fromarray(np.stack([rows + 10, columns, 0 * rows], -1).astype(np.uint8))
    mirrored = 0
    for number in range(40):
        crop = np.asarray(augmented(image, tiny_preprocess, np.random.default_rng(number))).astype(int)
        assert crop.shape == (32, 32, 3)
        assert crop[..., 0].min() >= 9
        mirrored += crop[16, 0, 1] > crop[16, -1, 1]
    assert 8 < mirrored < 32
    square = [_box((600, 600), np.random.default_rng(number)) for number in range(200)]
    sides = np.array([(right - left, bottom - top) for left, top, right, bottom in square])
    shares, ratios = sides.prod(axis=1) / 600**2, sides[:, 0] / sides[:, 1]
    assert 0.079 < shares.min() < 0.2 and 0.8 < shares.max() <= 1  # CoOp's 8 to 100 % of the area
    assert 0.745 < ratios.min() < 0.8 and 1.25 < ratios.max() < 1.34  # and its 3/4 to 4/3
    line = Image.new("RGB", (1, 900))
    assert augmented(line, tiny_preprocess, np.random.default_rng(0)).size == (32, 32)


def test_logits_are_the_models_own(model, photos):
    dataset = read_folder(photos)
    text = cache_texts(model, dataset.class_names, CONFIG.templates)
    images = cache_images(model, *dataset.flat(), model.backbone.preprocess)
    list(fit(model, images, text, CONFIG))
    adapted, frozen = class_logits(model, images, text)
    classes = model.class_embeddings(dataset.class_names, CONFIG.templates)
    features = model.image.adapted(images.x, None)
    torch.testing.assert_close(adapted, (model.logit_scale * features @ classes.T).detach())
    torch.testing.assert_close(frozen, model.logit_scale * images.frozen @ text.frozen.T)
    assert not torch.allclose(adapted, frozen)
    assert dataclasses.replace(images, x=images.x.clone()).split(5)[1].x.shape[0] == len(images.labels) - 5
