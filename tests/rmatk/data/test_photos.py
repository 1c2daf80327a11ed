from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rmatk.data.photos import Dataset, image_batches, read_folder
from rmatk.data.shots import few_shot
from rmatk_runtime.errors import DataError
from rmatk_runtime.pictures.decode import load_image
from rmatk_runtime.pictures.preprocess import preprocess
from rmatk_runtime.pictures.walk import PassedOver


def test_classes_and_files_are_in_natural_order_and_underscores_become_spaces(tmp_path, draw_photos):
    root = draw_photos(tmp_path, {"part_10": 1, "part_2": 11, ".hidden": 1})
    (root / "part_2" / "notes.txt").write_text("not a photo")
    dataset = read_folder(root)
    assert dataset.class_names == ("part 2", "part 10")
    assert [file.stem for file in dataset.files[0]] == [str(n) for n in range(11)]
    assert dataset.relative()[-1] == "part_10/0.png"


def test_photos_may_lie_deeper(tmp_path, draw_photos):
    root = draw_photos(tmp_path, {"a": 2, "b": 2})
    (root / "a" / "monday").mkdir()
    shutil.move(root / "a" / "0.png", root / "a" / "monday" / "0.JPG")
    assert read_folder(root).relative()[:2] == ["a/1.png", "a/monday/0.JPG"]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (None, "found nothing at"),
        ({}, "found none in"),
        ({"a": 2, "b": 0, "c": 0}, "for: b, c"),
        ({"a b": 1, "a_b": 1}, "give the class a b"),
    ],
)
def test_folders_that_cannot_be_used_are_named(tmp_path, counts, message, draw_photos):
    root = tmp_path / "photos"
    if counts is not None:
        root.mkdir()
        draw_photos(root, counts)
    with pytest.raises(DataError, match=message) as caught:
        read_folder(root)
    assert caught.value.hint


def test_photos_of_other_kinds_are_told(tmp_path, draw_photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if the extra were not installed
    root = draw_photos(tmp_path, {"a": 2, "b": 2})
    for name in ("a/IMG_1.HEIC", "b/IMG_2.heic", "b/raw.NEF", "b/.DS_Store"):
        (root / name).write_bytes(b"")
    told = "2 .heic (pip install 'rmatk[heic]' to read them), 1 .nef"
    passed = PassedOver()
    dataset = read_folder(root, passed)
    assert passed.notes() == ("not read, hidden or left by systems and tools: 1 .DS_Store",)
    assert len(dataset.flat()[0]) == 4
    assert few_shot(dataset, 2, 1).notes == (f"not read, since they are no images by their names: {told}",)
    for number in range(2):
        (root / "a" / f"{number}.png").unlink()
    with pytest.raises(DataError, match="for: a; found: 2 .heic .*, 1 .nef") as caught:
        read_folder(root)
    assert caught.value.hint == "save them as JPEG or PNG"


def test_one_class_only_is_refused(tmp_path, draw_photos):
    with pytest.raises(DataError, match="at least two classes, found only 'a'"):
        few_shot(read_folder(draw_photos(tmp_path, {"a": 3})), 2, 1)


def test_shots_are_drawn_again_alike_and_validation_from_the_rest(photos):
    dataset = read_folder(photos)
    first, again, other = few_shot(dataset, 3, 1), few_shot(dataset, 3, 1), few_shot(dataset, 3, 2)
    assert first == again
    assert first.train != other.train
    names = [tuple(file.name for file in files) for files in first.train.files]
    assert len(set(names)) > 1, "each class has a draw of its own"
    for train, validation in zip(first.train.files, first.validation.files, strict=True):
        assert (len(train), len(validation)) == (3, 5)
        assert not set(train) & set(validation)


def test_another_class_changes_nothing_for_the_others(photos, draw_photos):
    before = few_shot(read_folder(photos), 3, 1).train.relative()
    draw_photos(photos, {"another": 5})
    after = few_shot(read_folder(photos), 3, 1).train.relative()
    assert set(before) == {file for file in after if not file.startswith("another")}


def test_too_few_photos_are_all_taken_and_noted(photos):
    shots = few_shot(read_folder(photos), 9, 1)
    assert len(shots.train.flat()[0]) == 24
    assert not shots.validation.flat()[0]
    told = "3 classes have fewer than 9 photos (the fewest, 8: blue dot); training took all of them"
    assert shots.notes == (told,)


def test_one_class_short_of_photos_is_the_one_named(tmp_path, draw_photos):
    dataset = read_folder(draw_photos(tmp_path, {"a": 4, "b": 1, "c": 3}))
    assert few_shot(dataset, 2, 1).notes == (
        "1 class has fewer than 2 photos (the fewest, 1: b); training took all of them",
    )
    assert "2 classes have fewer than 4 photos (the fewest, 1: b)" in few_shot(dataset, 4, 1).notes[0]
    assert not few_shot(dataset, 1, 1).notes


@given(shots=st.integers(1, 12), seed=st.integers(0, 2**40), counts=st.lists(st.integers(1, 9), min_size=2))
def test_every_draw_is_disjoint_and_of_the_right_size(tmp_path_factory, shots, seed, counts):
    root = tmp_path_factory.getbasetemp()
    files = tuple(tuple(root / f"{c}" / f"{n}.png" for n in range(count)) for c, count in enumerate(counts))
    drawn = few_shot(Dataset(root, tuple(map(str, range(len(counts)))), files), shots, seed)
    for count, train, validation in zip(counts, drawn.train.files, drawn.validation.files, strict=True):
        assert len(train) == min(count, shots)
        most = max(min(shots, 4), -(-32 // len(counts)))  # 32 in all are drawn of few classes
        assert len(validation) == min(count - len(train), most)
        assert len({*train, *validation}) == len(train) + len(validation)


def test_batches_hold_the_one_preprocessing_of_every_photo_in_order(photos, tiny_preprocess):
    files = read_folder(photos).flat()[0]
    batches = list(image_batches(files, tiny_preprocess, 10))
    assert [len(batch) for batch in batches] == [10, 10, 4]
    expected = [preprocess(load_image(file), tiny_preprocess) for file in files]
    np.testing.assert_array_equal(np.concatenate(batches), np.stack(expected))


def test_every_unreadable_photo_is_listed_in_one_error(photos, tiny_preprocess):
    files = read_folder(photos).flat()[0]
    files[2].write_bytes(b"not an image")
    files[20].write_bytes(files[20].read_bytes()[:200])
    with pytest.raises(DataError, match="2 of 24 images cannot be used") as caught:
        list(image_batches(files, tiny_preprocess, 4))
    assert str(files[2]) in caught.value.message
    assert str(files[20]) in caught.value.message


def test_photos_of_different_modes_go_together(tmp_path, tiny_preprocess):
    for mode in ("L", "RGBA", "P", "CMYK", "I;16"):
        Image.new(mode, (40, 50)).save(tmp_path / f"{mode.strip(';')}.tif")
    (batch,) = image_batches(sorted(tmp_path.iterdir()), tiny_preprocess, 8)
    assert batch.shape == (5, 3, 32, 32)


def test_some_unreadable_photos_may_be_passed_over(photos, tiny_preprocess):
    files = read_folder(photos).flat()[0]
    good = [file for index, file in enumerate(files) if index not in (1, 2, 23)]
    for index in (1, 2, 23):
        files[index].write_bytes(b"not an image")
    heard: dict[int, str] = {}
    batches = image_batches(files, tiny_preprocess, 2, max_bad=3 / 24, on_bad=heard.__setitem__)
    expected = [preprocess(load_image(file), tiny_preprocess) for file in good]
    np.testing.assert_array_equal(np.concatenate(list(batches)), np.stack(expected))
    assert list(heard) == [1, 2, 23]
    assert all(str(files[index]) in message for index, message in heard.items())
    with pytest.raises(DataError, match="3 of 24 images cannot be used"):
        list(image_batches(files, tiny_preprocess, 2, max_bad=2.9 / 24))


def test_datasets_under_other_names_keep_every_photo(photos):
    dataset = read_folder(photos)
    names = ("red stripe", "none", "green check", "blue dot")
    other = dataset.under(names)
    assert other.class_names == names
    assert other.files == (dataset.files[2], (), dataset.files[1], dataset.files[0])
    assert dataset.select([2, 0]).files == (dataset.files[2], dataset.files[0])
    twins = Dataset(dataset.root, ("crane", "crane"), dataset.files[:2])
    assert twins.under(("crane", "crane")) == twins
    assert twins.under(("shark", "crane", "crane")).files == ((), dataset.files[0] + dataset.files[1], ())
