from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from rmatk.config import TrainConfig
from rmatk.data.benchmarks import BENCHMARKS
from rmatk.data.formats import open_dataset, open_splits
from rmatk.deployment.from_run import export_source
from rmatk.training.train import train
from rmatk_runtime.errors import DataError


def write_split(path: Path, **parts: list) -> Path:
    path.write_text(json.dumps({"train": [], "val": [], "test": [], **parts}))
    return path


@pytest.fixture
def coop(tmp_path, draw_photos):
    """CoOp's layout of Caltech101, with labels whose order is not that of the names."""
    root = tmp_path / "caltech-101"
    draw_photos(root / "101_ObjectCategories", {"zebra": 3, "sea_horse": 3})
    rows = {
        part: [[f"zebra/{n}.png", 0, "zebra"], [f"sea_horse/{n}.png", 1, "sea_horse"]]
        for n, part in enumerate(("train", "val", "test"))
    }
    write_split(root / "split_zhou_Caltech101.json", **rows)
    return root


def test_a_csv_names_files_and_classes(photos):
    table = photos / "some.csv"
    lines = ["blue_dot/0.png,blue_dot", "red_stripe/0.png , red stripe", "blue_dot/1.png,blue dot", ""]
    table.write_text("\n".join(["path,label", *lines]))
    dataset = open_dataset(table, "train")
    assert dataset.class_names == ("blue dot", "red stripe")
    assert dataset.relative() == ["blue_dot/0.png", "blue_dot/1.png", "red_stripe/0.png"]
    table.write_text("\n".join(lines))
    assert open_dataset(table, "test") == dataset, "the header is optional, and there are no parts"


def test_photos_of_a_csv_may_lie_elsewhere(photos, tmp_path):
    table = tmp_path / "elsewhere.csv"
    table.write_text(f"{photos}/blue_dot/0.png,dot\n{photos}/red_stripe/0.png,stripe\n")
    assert open_dataset(table, "train").relative()[0] == "photos/blue_dot/0.png"
    (tmp_path / "deeper").mkdir()
    table = table.rename(tmp_path / "deeper" / "table.csv")
    assert open_dataset(table, "train").relative()[0] == (photos / "blue_dot" / "0.png").as_posix()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n", "expected lines of path,label"),
        ("a.png,x\nb.png\n", "line 2: expected path,label, found 'b.png'"),
        ("a.png,x,y\n", "line 1: expected path,label"),
        ("a.png,\n", "line 1: expected path,label"),
    ],
)
def test_csv_lines_that_cannot_be_used_are_named(tmp_path, text, message):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path / "table.csv", "train")


def test_a_csv_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a CSV file in UTF-8"):
        open_dataset(tmp_path / "table.csv", "train")


def test_coops_split_gives_parts_labels_in_order_and_the_prompt(coop):
    for part, photo in (("train", "0"), ("val", "1"), ("test", "2")):
        dataset = open_dataset(coop / "split_zhou_Caltech101.json", part)
        assert dataset.class_names == ("zebra", "sea horse")
        assert dataset.relative() == [f"zebra/{photo}.png", f"sea_horse/{photo}.png"]
        assert all(file.is_file() for file in dataset.flat()[0])
        assert dataset.template == "a photo of a {}."
        assert open_dataset(coop, part) == dataset, "the folder stands for its split file"
    assert open_splits(coop / "split_zhou_Caltech101.json").name == open_splits(coop).name == "caltech-101"


def test_a_split_file_of_ones_own_is_relative_to_itself(photos):
    rows = {"train": [["blue_dot/0.png", 4, "dot"]], "test": [["red_stripe/0.png", 2, "stripe"]]}
    dataset = open_dataset(write_split(photos / "mine.json", **rows), "test")
    assert dataset.class_names == ("stripe", "dot")
    assert [len(files) for files in dataset.files] == [1, 0], "every part has all classes"
    assert dataset.template is None


def test_split_files_that_cannot_be_used_are_named(coop, tmp_path):
    two_names = write_split(tmp_path / "two.json", train=[["a", 0, "x"]], val=[["b", 0, "y"]])
    with pytest.raises(DataError, match="label 0 is 'x', but 'y' for b"):
        open_dataset(two_names, "train")
    (tmp_path / "other.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="not a split file"):
        open_dataset(tmp_path / "other.json", "train")
    shutil.rmtree(coop / "101_ObjectCategories")
    with pytest.raises(DataError, match="101_ObjectCategories, but there is no such folder"):
        open_dataset(coop, "train")
    with pytest.raises(DataError, match="lists no photos for this part"):
        open_dataset(write_split(tmp_path / "none.json", train=[["a", 0, "x"]]), "test")


def test_aircraft_come_with_lists_of_their_own(tmp_path, draw_photos):
    draw_photos(tmp_path, {"images": 3})
    for number in range(3):
        (tmp_path / "images" / f"{number}.png").rename(tmp_path / "images" / f"{number}.jpg")
    (tmp_path / "variants.txt").write_text("Cessna 172\n737-200\n")
    (tmp_path / "images_variant_train.txt").write_text("0 737-200\n2 Cessna 172\n")
    dataset = open_dataset(tmp_path, "train")
    assert dataset.class_names == ("Cessna 172", "737-200")
    assert dataset.relative() == ["2.jpg", "0.jpg"]
    assert dataset.template == "a photo of a {}, a type of aircraft."
    with pytest.raises(DataError, match="images_variant_test.txt"):
        open_dataset(tmp_path, "test")
    (tmp_path / "images_variant_test.txt").write_text("1 747\n")
    with pytest.raises(DataError, match="'747' is not in variants.txt"):
        open_dataset(tmp_path, "test")


@pytest.fixture
def imagenet(tmp_path, draw_photos):
    """CoOp's layout of ImageNet: two classes of one name, and a table in another order than the folders'."""
    root = tmp_path / "imagenet"
    for part, count in (("train", 3), ("val", 2)):
        draw_photos(root / "images" / part, {"n00000001": count, "n00000002": count, "n00000003": count})
    (root / "classnames.txt").write_text("n00000003 great white shark\nn00000001 crane\nn00000002 crane\n")
    return root


def test_imagenet_takes_names_from_its_table(imagenet):
    data = open_splits(imagenet)
    assert data.name == "imagenet"
    assert data.train.class_names == data.test.class_names == ("great white shark", "crane", "crane")
    assert [files[0].parent.name for files in data.train.files] == ["n00000003", "n00000001", "n00000002"]
    assert [len(files) for files in data.train.files] == [3, 3, 3]
    assert [files[0].parent.parent.name for files in data.test.files] == ["val"] * 3
    assert data.train.template == "a photo of a {}."


def test_variants_have_some_of_the_classes_or_numbers_for_names(imagenet, tmp_path, draw_photos):
    adversarial = tmp_path / "imagenet-adversarial"
    draw_photos(adversarial / "imagenet-a", {"n00000002": 1, "n00000003": 1})
    shutil.copy(imagenet / "classnames.txt", adversarial)
    assert open_dataset(adversarial, "test").class_names == ("great white shark", "crane")
    v2 = tmp_path / "imagenetv2"
    draw_photos(v2 / "matched", {"0": 1, "1": 1, "2": 1})
    shutil.copy(imagenet / "classnames.txt", v2)
    dataset = open_dataset(v2, "test")
    assert dataset.class_names == ("great white shark", "crane", "crane")
    assert [files[0].parent.name for files in dataset.files] == ["0", "1", "2"]


def test_without_a_table_wordnet_ids_are_refused_and_numbers_are_names(tmp_path, draw_photos):
    with pytest.raises(DataError, match=r"no classnames\.txt"):
        open_dataset(draw_photos(tmp_path / "a" / "b" / "ids", {"n00000001": 1, "n00000002": 1}), "test")
    assert open_dataset(
        draw_photos(tmp_path / "a" / "b" / "digits", {"0": 1, "1": 1}), "test"
    ).class_names == (
        "0",
        "1",
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [("n00000001 crane\n", "is not a class of"), ("shark 3\n", "line 1: expected a WordNet id and a name")],
)
def test_tables_that_do_not_fit_are_named(imagenet, table, message):
    (imagenet / "classnames.txt").write_text(table)
    with pytest.raises(DataError, match=message):
        open_dataset(imagenet, "train")


def test_folders_of_parts(tmp_path, draw_photos):
    draw_photos(tmp_path / "train", {"a": 3, "b": 2, "c": 1})
    draw_photos(tmp_path / "test", {"c": 2, "a": 1})
    data = open_splits(tmp_path)
    assert data.train.class_names == data.test.class_names == ("a", "b", "c")
    assert [len(files) for files in data.test.files] == [1, 0, 2]
    assert open_dataset(tmp_path / "test", "train").class_names == ("a", "c"), "a part itself has no parts"
    with pytest.raises(DataError, match="expected a folder val"):
        open_dataset(tmp_path, "val")


def test_parts_may_be_csv_files(photos):
    (photos / "train.csv").write_text("red_stripe/0.png,stripe\nblue_dot/0.png,dot\n")
    (photos / "test.csv").write_text("red_stripe/1.png,stripe\n")
    data = open_splits(photos)
    assert data.train.relative() == ["blue_dot/0.png", "red_stripe/0.png"]
    assert [len(files) for files in data.test.files] == [0, 1]


def test_classes_called_train_and_test_are_classes_among_others(tmp_path, draw_photos):
    root = draw_photos(tmp_path, {"train": 1, "bus": 1})
    assert open_dataset(root, "test").class_names == ("bus", "train")


def test_training_photos_are_never_test_photos(photos):
    with pytest.raises(DataError, match="the same photos are in both"):
        open_splits(photos)


def test_test_classes_must_be_known(tmp_path, draw_photos):
    draw_photos(tmp_path / "train", {"a": 1, "b": 1})
    draw_photos(tmp_path / "test", {"a": 1, "x": 1})
    with pytest.raises(DataError, match="not known: x; known are: a, b"):
        open_splits(tmp_path)


@pytest.mark.parametrize("name", ["nothing", "photo.txt"])
def test_what_cannot_be_labelled_photos_is_refused(tmp_path, name):
    (tmp_path / "photo.txt").write_text("")
    with pytest.raises(DataError, match="expected") as caught:
        open_dataset(tmp_path / name, "train")
    assert caught.value.hint


def test_the_eleven_benchmarks_have_prompts():
    assert len(BENCHMARKS) == len({b.folder for b in BENCHMARKS}) == 11
    assert all(b.template.count("{}") == 1 for b in BENCHMARKS)


@pytest.fixture
def listed(tmp_path, photos) -> Path:
    """A CSV whose labels are not the folders' names, of photos in another folder."""
    table = tmp_path / "tables" / "train.csv"
    table.parent.mkdir()
    lines = [f"{file},{file.parent.name[0]} thing" for file in sorted(photos.rglob("*.png"))]
    table.write_text("\n".join(lines))
    return table


def test_training_and_export_know_the_labels_of_a_csv(tiny, tmp_path, listed):
    run = train(TrainConfig(shots=3, epochs=1, rank=2), tiny, listed, tmp_path / "run")
    assert run.record.class_names == ("b thing", "g thing", "r thing")
    labels = [run.record.class_names[label] for label in run.record.train_labels]
    assert labels == [f"{Path(file).parent.name[0]} thing" for file in run.record.train_files]
    golden = export_source(run, tiny, golden=9).golden
    truth = [f"{Path(name).parent.name[0]} thing" for name in golden.names]
    assert list(golden.labels) == truth


def test_training_uses_a_benchmarks_prompt_unless_told(tiny, tmp_path, coop):
    config = TrainConfig(shots=1, epochs=1, rank=2)
    rows = {p: [["zebra/0.png", 0, "zebra"], ["sea_horse/0.png", 1, "sea horse"]] for p in ("train", "test")}
    textures = coop.parent / "dtd"
    shutil.copytree(coop / "101_ObjectCategories", textures / "images")
    write_split(textures / "split_zhou_DescribableTextures.json", **rows)
    own = train(config, tiny, textures, tmp_path / "own")
    assert own.record.config.templates == ("{} texture.",)
    told = train(msgspec.structs.replace(config, templates=("{}",)), tiny, textures, tmp_path / "told")
    assert told.record.config.templates == ("{}",)


def test_training_may_pass_over_unreadable_photos(tiny, tmp_path, photos):
    (photos / "blue_dot" / "3.png").write_bytes(b"not an image")
    config = TrainConfig(shots=8, epochs=1, rank=2)
    with pytest.raises(DataError, match="1 of 24 images cannot be used") as caught:
        train(config, tiny, photos, tmp_path / "run")
    assert "--max-bad" in (caught.value.hint or "")
    with pytest.raises(DataError, match="1 of 24 images cannot be used"):
        train(msgspec.structs.replace(config, max_bad=0.04), tiny, photos, tmp_path / "run")
    run = train(msgspec.structs.replace(config, max_bad=0.05), tiny, photos, tmp_path / "run")
    assert len(run.record.train_files) == len(run.record.train_labels) == 23
    assert "blue_dot/3.png" not in run.record.train_files
    assert any("left out" in note and "3.png" in note for note in run.record.notes)
