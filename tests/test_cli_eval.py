"""``rmatk eval --protocol`` and the benchmarks: tables, files, JSON, and usage errors."""

from __future__ import annotations

import csv
import json
import runpy
import sys
from pathlib import Path

import pytest

QUICK = ("--shots", 2, "--epochs", 1, "--rank", 2, "--seeds", "1,2")


@pytest.fixture(scope="module")
def data(tmp_path_factory, draw_photos) -> Path:
    root = tmp_path_factory.mktemp("data") / "drawn"
    for part, count in (("train", 3), ("test", 2)):
        draw_photos(root / part, dict.fromkeys(("bolt", "cup", "gear", "key"), count))
    return root


def test_base_to_new_as_a_table_and_in_files(rmatk, data, tmp_path):
    table, document = tmp_path / "results.csv", tmp_path / "results.md"
    code, out, err = rmatk(
        "eval", "--protocol", "base-to-new", "--data", data, *QUICK, "--csv", table, "--markdown", document
    )
    assert code == 0, err
    assert "rmadapter" in out and "HM" in out and "±" in out
    assert out.splitlines()[-1] == f"next: rmatk train {data} -o RUN"
    rows = list(csv.DictReader(table.open()))
    assert [row["seed"] for row in rows if row["method"] == "adapter-only"] == ["1", "2", "mean", "sd"]
    assert "| method | base | new | HM |" in document.read_text()


@pytest.mark.parametrize("protocol", ["cross-dataset", "domain"])
def test_targets(rmatk, data, photos, protocol):
    target = data / "test" if protocol == "domain" else photos
    code, out, err = rmatk(
        "eval",
        "--protocol",
        protocol,
        "--data",
        data,
        "--target",
        target,
        *QUICK,
        "--methods",
        "rmadapter",
        "--json",
    )
    assert code == 0, err
    result = json.loads(out)
    assert result["columns"] == ["drawn", target.name, "average"]
    assert result["config"]["rank"] == 2
    (method,) = result["methods"]
    assert [seed["seed"] for seed in method["per_seed"]] == [1, 2]


def test_few_shot_takes_a_csv_folder_and_a_prompt(rmatk, data):
    code, out, err = rmatk(
        "eval",
        "--protocol",
        "few-shot",
        "--data",
        data,
        *QUICK,
        "--template",
        "{}",
        "--methods",
        "tip-adapter",
        "--json",
    )
    assert code == 0, err
    assert json.loads(out)["templates"] == ["{}"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "give RUN and DATA"),
        (("RUN",), "give RUN and DATA"),
        (("RUN", "DATA", "--data", "x"), "give RUN and DATA"),
        (("--protocol", "few-shot"), "takes its photos with --data"),
        (("RUN", "--protocol", "few-shot", "--data", "x"), "takes its photos with --data"),
        (("--protocol", "zero", "--data", "x"), "--protocol is one of"),
        (("--protocol", "few-shot", "--data", "x", "--target", "y"), "few-shot needs none"),
        (("--protocol", "domain", "--data", "x"), "domain needs at least one"),
        (("--protocol", "few-shot", "--data", "x", "--seeds", "1,a"), "--seeds takes numbers"),
        (("--protocol", "few-shot", "--data", "x", "--methods", "best"), "known: zero-shot"),
        (("--protocol", "few-shot", "--data", "x", "--lr", "-1"), "--lr must be above 0"),
        (("RUN", "DATA", "--shots", "4", "--csv", "x"), "--shots, --csv can be given with --protocol only"),
        (("RUN", "DATA", "--seeds", "1,2,3"), "--seeds can be given with --protocol only"),
        (("--protocol", "few-shot", "--data", "x", "--max-bad", "0.1"), "--max-bad can be given with RUN"),
    ],
)
def test_usage_errors_say_what_is_wrong(rmatk, args, message):
    code, _, err = rmatk("eval", *args)
    assert code == 2
    assert message in " ".join(err.replace("│", " ").split())


def test_photos_that_are_not_there_are_a_named_error(rmatk, tmp_path):
    code, _, err = rmatk("eval", "--protocol", "few-shot", "--data", tmp_path / "nowhere")
    assert code == 1
    assert "found nothing at" in err


def test_the_benchmark_ends_in_one_json_object(data, capsys, monkeypatch):
    script = Path(__file__).parents[1] / "benchmarks" / "base_to_new.py"
    args = [
        "--data",
        str(data),
        "--seeds",
        "1,2",
        "--set",
        "epochs=1",
        "--set",
        "shots=2",
        "--set",
        "image_con_weight=0.5",
    ]
    monkeypatch.setattr(sys, "argv", [str(script), *args])
    monkeypatch.syspath_prepend(str(script.parent))
    runpy.run_path(str(script), run_name="__main__")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [method["method"] for method in result["methods"]] == ["zero-shot", "adapter-only", "rmadapter"]
    assert all({"base", "new", "hm"} == set(m["mean"]) == set(m["sd"]) for m in result["methods"])
    assert result["config"]["l3"] == 0.5
