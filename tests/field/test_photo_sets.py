"""Folders and lists of photos as the world has them: each is read as its maker meant it, or refused by name.

Of every case it is noted how release e04a74c failed it.
"""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rmatk.calibration import calibrate
from rmatk.config import TrainConfig
from rmatk.data.class_names import read_class_names
from rmatk.data.formats import open_dataset, open_splits
from rmatk.data.shots import few_shot
from rmatk.training.train import train
from rmatk_runtime.errors import DataError

TRAIN = TrainConfig(shots=2, epochs=1, rank=2)


def photo(path: Path, number: int = 0) -> Path:
    """A small noisy picture; equal numbers give equal pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (12, 14, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def photos(root: Path, *folders: str, count: int = 3, first: int = 0) -> Path:
    """``count`` pictures, no two alike, in each folder below ``root``."""
    for place, folder in enumerate(folders):
        for number in range(count):
            photo(root / folder / f"{number}.png", first + 100 * place + number)
    return root


def names_of(root: Path, part: str) -> tuple[tuple[str, ...], int]:
    dataset = open_dataset(root, part)  # type: ignore[arg-type]
    return dataset.class_names, len(dataset.flat()[0])


# parts: classes train, valid, test (or Training, Testing) were trained on, exit 0


@pytest.mark.parametrize(
    ("train_name", "test_name"),
    [
        ("train", "test"),
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("train", "valid"),
        ("train", "validation"),
        ("train", "dev"),
        ("training_set", "test_set"),
        ("train_images", "eval"),
        ("train2017", "val2017"),
        ("images-train", "images-test"),
        ("trn", "tst"),
    ],
)
@pytest.mark.parametrize("above", ["", "images", "data/raw"])
def test_parts_in_any_usual_spelling(tmp_path, train_name, test_name, above):
    photos(tmp_path / above, f"{train_name}/cat", f"{train_name}/dog")
    photos(tmp_path / above, f"{test_name}/cat", f"{test_name}/dog", count=2, first=1000)
    (tmp_path / "README.md").write_text("exported")
    (tmp_path / "labels").mkdir()
    assert names_of(tmp_path, "train") == (("cat", "dog"), 6)
    assert names_of(tmp_path, "test") == (("cat", "dog"), 4)


def test_parts_of_a_roboflow_export_beside_unlabeled_photos(tmp_path):
    photos(tmp_path, "train/cat", "train/dog", "valid/cat", "valid/dog", "test/cat", "test/dog", "unlabeled")
    for name in ("README.dataset.txt", "README.roboflow.txt"):
        (tmp_path / name).write_text("x")
    dataset = open_dataset(tmp_path, "train")
    assert dataset.class_names == ("cat", "dog") and len(dataset.flat()[0]) == 6
    assert dataset.notes == ("not read, beside the parts: unlabeled",)


@pytest.mark.parametrize(
    ("folders", "part", "expected"),
    [
        (("PetImages/Cat", "PetImages/Dog"), "train", ("Cat", "Dog")),
        (("training_set/training_set/cats", "training_set/training_set/dogs", "test_set/test_set/cats"),
         "train", ("cats", "dogs")),
        (("train/images/a", "train/images/b", "test/images/a"), "test", ("a",)),
        (("TrainingData/a", "TrainingData/b", "TestingData/b"), "test", ("b",)),
        (("trainset/a", "trainset/b", "valset/b"), "test", ("b",)),
        (("1_train/a", "1_train/b", "2_val/a", "3_test/b"), "test", ("b",)),
        (("Animals-1/train/a", "Animals-1/train/b", "__MACOSX/Animals-1"), "train", ("a", "b")),
        (("dataset/Dataset/Train/a", "dataset/Dataset/Train/b", "dataset/Dataset/Test/a"), "test", ("a",)),
        (("a", "b", "_unlabeled"), "train", ("a", "b")),
        (("images/train/a", "images/train/b", "images/val/a", "labels"), "test", ("a",)),
    ],
)  # fmt: skip
def test_parts_and_classes_of_exports_in_use(tmp_path, folders, part, expected):
    photos(tmp_path, *folders)
    for photo_of_none in (tmp_path / "labels").glob("*"):  # YOLO's folder of text files
        photo_of_none.unlink()
    assert names_of(tmp_path, part)[0] == expected


def test_one_class_whose_folders_may_be_the_classes_is_refused_by_name(tmp_path):
    photos(tmp_path, "zoo/cat", "zoo/dog")
    with pytest.raises(DataError, match="found only 'zoo'") as caught:
        few_shot(open_dataset(tmp_path, "train"), 2, 1)
    assert caught.value.hint == f"if the folders in it are the classes, give {tmp_path / 'zoo'} as DATA"


def test_parts_with_an_unlabelled_test_part_are_measured_on_val(tmp_path):
    photos(tmp_path, "train/cat", "train/dog", "val/cat", "val/dog", "test")
    dataset = open_dataset(tmp_path, "test")
    assert {file.parts[-3] for file in dataset.flat()[0]} == {"val"}
    assert "its val part is taken" in " ".join(dataset.notes) and "test (no class folders)" in str(
        dataset.notes
    )


def test_parts_inside_each_class(tmp_path):
    photos(tmp_path, "cat/train", "dog/train", "cat/test", "dog/test", count=2)
    data = open_splits(tmp_path)
    assert data.train.class_names == ("cat", "dog") and len(data.train.flat()[0]) == 4
    assert {file.parent.name for file in data.test.flat()[0]} == {"test"}


def test_a_class_named_as_a_part_stays_a_class(tmp_path):
    photos(tmp_path, "bus", "car", "train")
    assert names_of(tmp_path, "train") == (("bus", "car", "train"), 9)


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("train", "test"), "expected class folders in test, train"),
        (("train/cat", "train/dog", "Training/cat", "test/cat"), "all name the part train"),
        (("train/steam", "train/diesel", "bus", "car"), "cannot tell whether train"),
        (("valid/cat", "valid/dog"), "expected a folder train"),
    ],
)
def test_parts_that_can_be_read_in_two_ways_are_refused_by_name(tmp_path, folders, said):
    photos(tmp_path, *folders)
    with pytest.raises(DataError, match=said) as caught:
        open_dataset(tmp_path, "train")
    assert caught.value.hint


@pytest.mark.parametrize(("train_key", "test_key"), [("Training", "Testing"), ("train", "valid")])
def test_parts_of_a_split_json(tmp_path, train_key, test_key):
    photos(tmp_path, "cat", "dog")
    rows = {
        train_key: [["cat/0.png", 0, "cat"], ["dog/0.png", 1, "dog"]],
        test_key: [["dog/1.png", 1, "dog"]],
    }
    (tmp_path / "split.json").write_text(json.dumps(rows))
    assert names_of(tmp_path / "split.json", "train") == (("cat", "dog"), 2)
    assert names_of(tmp_path / "split.json", "test") == (("cat", "dog"), 1)


def test_parts_in_a_column_of_a_table(tmp_path):
    photos(tmp_path, "cat", "dog")
    lines = ["filename;class;Split", "cat/0.png;cat;TRAIN", "dog/0.png;dog;train", "dog/1.png;dog;Valid"]
    (tmp_path / "all.csv").write_text("\n".join(lines))
    assert names_of(tmp_path / "all.csv", "train") == (("cat", "dog"), 2)
    assert names_of(tmp_path / "all.csv", "test") == (("dog",), 1)


def test_a_table_of_names_whose_folders_are_columns(tmp_path):
    photos(tmp_path, "train/cat", "train/dog", "test/cat")
    (tmp_path / "list.csv").write_text("split,class,file\ntrain,cat,0.png\ntrain,dog,0.png\ntest,cat,0.png\n")
    files = open_dataset(tmp_path / "list.csv", "train").flat()[0]
    assert [file.relative_to(tmp_path).as_posix() for file in files] == ["train/cat/0.png", "train/dog/0.png"]


def test_kaggle_has_ids_without_endings_in_a_table_beside_the_photos(tmp_path):
    photos(tmp_path, "train", "test")
    (tmp_path / "train.csv").write_text("id,breed\n0,boxer\n1,beagle\n2,boxer\n")
    dataset = open_dataset(tmp_path, "train")
    assert dataset.class_names == ("beagle", "boxer")
    assert all(file.is_file() and file.parent.name == "train" for file in dataset.flat()[0])


def test_roboflow_has_a_column_of_0_and_1_per_class(tmp_path):
    for part in ("train", "valid"):
        photos(tmp_path, part, count=2)
        (tmp_path / part / "_classes.csv").write_text("filename, cat, dog\n0.png, 1, 0\n1.png, 0, 1\n")
    assert names_of(tmp_path, "train") == (("cat", "dog"), 2)
    assert names_of(tmp_path, "test") == (("cat", "dog"), 2)


def test_fiftyone_has_labels_json_and_data(tmp_path):
    photos(tmp_path, "data")
    (tmp_path / "labels.json").write_text(json.dumps({"classes": ["cat", "dog"], "labels": {"0": 1, "2": 0}}))
    dataset = open_dataset(tmp_path, "train")
    assert dataset.class_names == ("cat", "dog")
    assert [file.name for file in dataset.flat()[0]] == ["2.png", "0.png"]


# twins: trained, and export ended in ValueError ("two classes have the same name")


@pytest.mark.parametrize(
    "pair",
    [
        ("hot_dog", "hot-dog"),
        ("Crane", "crane"),
        ("hotdog", "hot dog"),
        (unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFKD", "Café")),
        ("ﬁsh", "fish"),
    ],
)
def test_twins_are_told_before_training(tiny, tmp_path, pair):
    photos(tmp_path / "ds", *pair, "bus")
    with pytest.raises(DataError, match="one name, but for case") as caught:
        train(TRAIN, tiny, tmp_path / "ds", tmp_path / "run")
    assert "--class-names" in str(caught.value.hint) and not (tmp_path / "run").exists()


def test_twins_of_a_split_json(tiny, tmp_path):
    photos(tmp_path, "a", "b")
    rows = [[f"{c}/{n}.png", label, "crane"] for label, c in enumerate("ab") for n in range(2)]
    (tmp_path / "split.json").write_text(json.dumps({"train": rows, "val": [], "test": []}))
    with pytest.raises(DataError, match="'crane' and 'crane'"):
        train(TRAIN, tiny, tmp_path / "split.json", tmp_path / "run")


def test_names_composed_and_decomposed_are_one_class_in_training_and_test(tmp_path):
    photos(tmp_path, unicodedata.normalize("NFD", "train/café"), "train/bus")
    photos(tmp_path, unicodedata.normalize("NFC", "test/café"), "test/bus")
    assert open_splits(tmp_path).test.class_names == ("bus", unicodedata.normalize("NFC", "café"))


# long names: trained silently with equal text embeddings


@pytest.fixture(scope="module")
def micro():
    from rmatk.backbones.backbone import load_backbone

    return load_backbone("rmatk-micro")


def test_long_names_that_the_text_tower_reads_alike_are_told(micro, tmp_path):
    long = " ".join(["Animalia Chordata Aves Passeriformes"] * 6)
    photos(tmp_path / "ds", f"{long} rufa", f"{long} alba", "bus")
    with pytest.raises(DataError, match="reads the same of these classes") as caught:
        train(TRAIN, micro, tmp_path / "ds", tmp_path / "run")
    assert "it reads 32 tokens" in caught.value.message and "rufa" in caught.value.message
    assert "tokens in 'a photo of a Animalia" in caught.value.message and "cut: " in caught.value.message
    assert "--class-names" in str(caught.value.hint)


def test_long_names_that_differ_early_are_noted(micro, tmp_path):
    long = " ".join(["Animalia Chordata Aves Passeriformes"] * 6)
    photos(tmp_path / "ds", f"red {long}", f"blue {long}")
    run = train(TRAIN, micro, tmp_path / "ds", tmp_path / "run")
    assert any("2 prompts are longer than the 32 tokens" in note for note in run.record.notes)


# lists from Windows: "malformed JSON", "cannot be printed", photos not found


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_tables_from_windows(tmp_path, encoding, end, mark):
    photos(tmp_path, "cat", "Größe")
    rows = [("File Name", "Class"), ("cat\\0.png", "cat"), ('"Größe\\1.png"', '"große, Größe"')]
    text = end.join(mark.join(row) for row in rows) + end
    (tmp_path / "list.csv").write_bytes(text.encode(encoding))
    dataset = open_dataset(tmp_path / "list.csv", "train")
    assert dataset.class_names == ("cat", "große, Größe")
    assert all(file.is_file() for file in dataset.flat()[0])


def test_tables_whose_names_differ_in_case_and_composition(tmp_path):
    photo(tmp_path / unicodedata.normalize("NFD", "Bébé") / "IMG_1.JPG")
    photo(tmp_path / "b" / "2.png")
    (tmp_path / "list.csv").write_text("sep=;\nbébé\\img_1.jpg;baby\nb/2.png;b\n", encoding="utf-8")
    assert all(file.is_file() for file in open_dataset(tmp_path / "list.csv", "train").flat()[0])


@pytest.mark.parametrize("path", ["C:\\photos\\a.jpg", "d:/photos/a.jpg", "\\\\nas\\photos\\a.jpg"])
def test_paths_on_a_windows_drive_are_named(tmp_path, path):
    (tmp_path / "list.csv").write_text(f"path,label\n{path},cat\n")
    with pytest.raises(DataError, match="line 2: .* Windows drive") as caught:
        open_dataset(tmp_path / "list.csv", "train")
    assert str(tmp_path) in str(caught.value.hint)


def test_json_and_names_with_a_byte_order_mark(tmp_path):
    photos(tmp_path, "cat", "dog")
    rows = {"train": [["cat\\0.png", 0, "cat"], ["dog\\0.png", 1, "dog"]]}
    (tmp_path / "split.json").write_bytes(json.dumps(rows).encode("utf-8-sig"))
    dataset = open_dataset(tmp_path / "split.json", "train")
    assert dataset.class_names == ("cat", "dog") and all(file.is_file() for file in dataset.flat()[0])
    photos(tmp_path / "net", "n01440764", "n01443537")
    (tmp_path / "net" / "classnames.txt").write_bytes(
        "n01440764 tench\r\nn01443537 goldfish\r\n".encode("utf-8-sig")
    )
    assert open_dataset(tmp_path / "net", "train").class_names == ("tench", "goldfish")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_labels_file_with_a_byte_order_mark(rmatk, tiny_bundle, tmp_path, encoding):
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    (tmp_path / "labels.txt").write_bytes("red stripe\r\nblue dot\r\n".encode(encoding))
    code, out, err = rmatk("labels", bundle, "set", tmp_path / "labels.txt", "--json")
    assert code == 0, err
    assert [label["name"] for label in json.loads(out)["labels"]] == ["red stripe", "blue dot"]


def test_text_in_another_encoding_is_named_by_its_line(tmp_path):
    (tmp_path / "list.csv").write_bytes("path,label\na.png,Größe\n".encode("cp1252"))
    with pytest.raises(DataError, match="line 2 is not text in UTF-8 .* save it as UTF-8"):
        open_dataset(tmp_path / "list.csv", "train")


# NAS leftovers: became classes


LEFTOVERS = ["@eaDir", ".thumbnails", "__MACOSX", "#recycle", "$RECYCLE.BIN", ".ipynb_checkpoints"]
LEFTOVERS += [".git", ".dvc", "lost+found", "@Recycle", "#snapshot", "System Volume Information"]


def test_leftovers_of_file_servers_and_systems_are_counted(tmp_path):
    photos(tmp_path, "cat", "dog", *LEFTOVERS, "cat/@eaDir/0.png", "dog/__MACOSX")
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        (tmp_path / "cat" / name).write_bytes(b"x")
    (tmp_path / "dog" / "._0.png").write_bytes(b"AppleDouble")
    dataset = open_dataset(tmp_path, "train")
    assert dataset.class_names == ("cat", "dog") and len(dataset.flat()[0]) == 6
    (note,) = dataset.notes
    assert "2 @eaDir" in note and "2 __MACOSX" in note and "1 ._*" in note and "1 Thumbs.db" in note
    assert f"with {3 * len(LEFTOVERS) + 6} files in these folders" in note


# linked folders: left out silently


def test_linked_folders_are_followed_and_cycles_end(tmp_path):
    elsewhere = photos(tmp_path / "elsewhere", "cat", "more")
    root = photos(tmp_path / "ds", "dog")
    (root / "cat").symlink_to(elsewhere / "cat")
    (root / "dog" / "more").symlink_to(elsewhere / "more")
    (root / "dog" / "again").symlink_to(root / "dog")
    (root / "dog" / "above").symlink_to(root)
    (root / "dog" / "gone.png").symlink_to(tmp_path / "nothing.png")
    (root / "bird").symlink_to(tmp_path / "nowhere")
    photo(tmp_path / "one.png", 7)
    (root / "dog" / "one.png").symlink_to(tmp_path / "one.png")
    dataset = open_dataset(root, "train")
    assert dataset.class_names == ("cat", "dog")
    assert [len(own) for own in dataset.files] == [3, 3 + 3 + 1]
    notes = " ".join(dataset.notes)
    assert f"links to nothing: 2 ({root / 'bird'}, {root / 'dog' / 'gone.png'})" in notes
    assert "folders that were read already: 2" in notes


def test_two_class_folders_that_are_one_by_a_link_are_refused(tmp_path):
    photos(tmp_path, "cat", "dog")
    (tmp_path / "kitten").symlink_to(tmp_path / "cat")
    with pytest.raises(DataError, match="cat and kitten of .* are one folder by a link"):
        open_dataset(tmp_path, "train")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_named(tmp_path):
    photos(tmp_path, "cat", "dog", "dog/more")
    (tmp_path / "dog" / "more").chmod(0)
    assert "no permission: 1" in " ".join(open_dataset(tmp_path, "train").notes)


# codes as names: prompts "a photo of a 001.Black footed Albatross."


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (
            ("001.Black_footed_Albatross", "002.Laysan_Albatross"),
            ("black-footed albatross", "Laysan albatross"),
        ),
        (("n02085620-Chihuahua", "n02085782-Japanese_spaniel"), ("Chihuahua", "Japanese spaniel")),
        (("1", "17"), ("pink primrose", "purple coneflower")),
    ],
)
@pytest.mark.parametrize("form", ["csv", "tsv", "txt", "json"])
def test_codes_are_noted_and_named_by_a_file(tiny, tmp_path, folders, names, form):
    data = photos(tmp_path / "ds", *folders)
    run = train(TRAIN, tiny, data, tmp_path / "before")
    assert any("2 of 2 class names look like codes" in note for note in run.record.notes)
    pairs = dict(zip((folder.split(".")[0].split("-")[0] for folder in folders), names, strict=True))
    lines = {"csv": ",", "tsv": "\t", "txt": " "}
    file = tmp_path / f"names.{form}"
    file.write_text(
        json.dumps(pairs) if form == "json" else "".join(f"{c}{lines[form]}{n}\n" for c, n in pairs.items())
    )
    named = train(TRAIN, tiny, data, tmp_path / "after", class_map=read_class_names(file))
    assert named.record.class_names == names and named.record.class_map == pairs
    assert not any("codes" in note for note in named.record.notes)


def test_the_names_of_a_run_are_those_of_eval_too(rmatk, tmp_path):
    data = photos(tmp_path / "ds", "train/001.a", "train/002.b", "test/001.a", "test/002.b", count=4)
    (tmp_path / "names.csv").write_text("code,name\n001,red dot\n002,blue dot\n")
    options = ("--model", "rmatk-micro", "--shots", 2, "--epochs", 1, "--class-names", tmp_path / "names.csv")
    code, _, err = rmatk("train", data, "-o", tmp_path / "run", *options)
    assert code == 0, err
    code, out, err = rmatk("eval", tmp_path / "run", data, "--json")
    assert code == 0, err
    assert [own["name"] for own in json.loads(out)["per_class"]] == ["red dot", "blue dot"]
    quick = (*options, "--methods", "zero-shot", "--seeds", 1)
    code, out, err = rmatk("eval", "--protocol", "few-shot", "--data", data, *quick, "--json")
    assert code == 0, err


def test_codes_that_the_file_does_not_name_are_told(tmp_path):
    photos(tmp_path, "001.a", "002.b", "003.c")
    with pytest.raises(DataError, match=r"no line for '002.b', '003.c'"):
        open_dataset(tmp_path, "train", {"001": "a"})


# few classes: of 2 to 4 classes no threshold was ever fitted, however many photos


@pytest.mark.parametrize("classes", [2, 3, 4, 7])
def test_few_classes_have_enough_validation_shots_for_a_threshold(tmp_path, classes):
    data = photos(tmp_path, *(f"kind {n}" for n in "abcdefg"[:classes]), count=40)
    shots = few_shot(open_dataset(data, "train"), 16, 1)
    labels = np.array(shots.validation.flat()[1])
    logits = np.random.default_rng(0).normal(0, 1, (len(labels), classes))
    logits[np.arange(len(labels)), labels] += 3
    fitted = calibrate(logits.astype(np.float32), labels, classes)
    assert len(labels) >= 28 and fitted.reject_threshold is not None


def test_few_classes_without_enough_photos_are_told_how_many_to_add(tmp_path):
    shots = few_shot(open_dataset(photos(tmp_path, "a", "b", count=20), "train"), 16, 1)
    labels = np.array(shots.validation.flat()[1])
    note = calibrate(np.zeros((len(labels), 2), np.float32), labels, 2).note
    assert note is not None and "10 photos of each class beyond its --shots" in note


# train on sets of one sort: unnoticed


def test_photos_in_training_and_test_are_counted_and_told_by_eval(rmatk, tmp_path):
    data = photos(tmp_path / "ds", "red dot", "blue dot", count=6)
    test = photos(tmp_path / "test", "red dot", "blue dot", count=4, first=5000)
    options = ("--model", "rmatk-micro", "--shots", 6, "--epochs", 1)
    code, _, err = rmatk("train", data, "-o", tmp_path / "run", *options)
    assert code == 0, err
    code, out, err = rmatk("eval", tmp_path / "run", test, "--json")
    assert code == 0 and json.loads(out)["trained_on"] == [] and "warning" not in err
    shutil.copy(data / "red dot" / "3.png", test / "red dot" / "renamed.png")
    Image.open(data / "blue dot" / "2.png").save(test / "blue dot" / "saved again.bmp")
    code, out, err = rmatk("eval", tmp_path / "run", test, "--json")
    found = json.loads(out)
    assert code == 0 and sorted(found["trained_on"]) == ["blue dot/saved again.bmp", "red dot/renamed.png"]
    assert (found["images"], found["images_unseen"], found["trained_on_bytes"]) == (10, 8, 1)
    code, _, err = rmatk("eval", tmp_path / "run", test)
    assert "2 of 10 photos were trained or validated on (1 byte for byte, 1 by the same pixels)" in err
    assert "accuracy on the others" in err


def test_a_picture_in_two_classes_is_told_before_training(tiny, tmp_path, caplog):
    data = photos(tmp_path / "ds", "red dot", "blue dot", count=2)
    shutil.copy(data / "red dot" / "0.png", data / "blue dot" / "0.png")
    train(TRAIN, tiny, data, tmp_path / "run")
    assert "1 pictures are in two classes" in caplog.text


# many classes: no result in minutes, every step running and keeping all prompts, and nothing said of it


def test_many_classes_cost_in_proportion_and_say_what_before(rmatk, tmp_path, monkeypatch):
    from rmatk.cli import progress_lines

    monkeypatch.setattr(progress_lines, "FIRST", 0.0)
    monkeypatch.setattr(progress_lines, "EVERY", 0.2)
    data = photos(
        tmp_path / "ds", *(f"kind {a}{b}" for a in "abcdefghijklmnopqr" for b in "abcdefghijklmnop"), count=2
    )
    options = ("--model", "rmatk-micro", "--shots", 2, "--epochs", 1)
    code, _, err = rmatk("train", data, "-o", tmp_path / "run", *options)
    assert code == 0, err
    steps = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(steps) == 2 * 288 // (288 // 8), "an epoch has as many steps as one of few classes"
    said = err.splitlines()
    memory = next(n for n, line in enumerate(said) if "288 prompts pass the text tower at every step" in line)
    first = next(n for n, line in enumerate(said) if line.startswith("training "))
    assert "MB are used in a step" in said[memory] and memory < first and " left" in said[-1]
