"""What int8 costs in accuracy on photos that nothing was fitted to, over several seeds.

    python benchmarks/int8_accuracy.py --data trashnet --json

For every seed a run is trained on ``DATA/train`` with 16 shots, exported in fp32, fp16 and int8, and compared
with PyTorch on ``DATA/test``, as ``rmatk parity BUNDLE DATA --against RUN`` does.

- ``points``: change of accuracy in percentage points; one photo of 300 is 0.33.
- ``labels_changed``: percent of the test photos whose label changed. The export predicted
  ``expected_changes`` for int8, from its few validation shots.
- ``int8_share``: of the blocks' multiplications, what the export's budget left in int8.

The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import PRECISIONS, export_every_precision

from rmatk.api import check_parity
from rmatk.backbones.backbone import MICRO, load_backbone
from rmatk.config import TrainConfig
from rmatk.training.train import train


def one_seed(model: str, pretrained: str | None, data: Path, seed: int, folder: Path) -> dict[str, Any]:
    """Accuracy in PyTorch, and per precision its change and how many labels changed."""
    config = TrainConfig(model=model, pretrained=pretrained, shots=16, seed=seed)
    backbone = load_backbone(model, pretrained)
    run = train(config, backbone, data / "train", folder / "run")
    chosen = export_every_precision(folder, golden=32).quantisation
    assert chosen is not None
    report = check_parity(folder / "bundle", data, against=run.path, backend="cpu")
    found: dict[str, Any] = {
        "seed": seed,
        "int8_share": round(chosen.int8_share, 2),
        "expected_changes": round(100 * chosen.expected_changes, 2),
    }
    for stage in report.stages:
        precision = stage.stage.split()[-1]
        if (
            precision in PRECISIONS
            and stage.accuracy is not None
            and stage.reference_accuracy is not None
            and stage.agreement is not None
        ):
            found["accuracy"] = stage.reference_accuracy
            found[precision] = {
                "points": round(100 * (stage.accuracy - stage.reference_accuracy), 2),
                "labels_changed": round(100 * (1 - stage.agreement), 2),
            }
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a folder with train/ and test/")
    parser.add_argument("--model", default=MICRO)
    parser.add_argument("--pretrained")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")
    args = parser.parse_args()
    rows = []
    for seed in map(int, args.seeds.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(one_seed(args.model, args.pretrained, args.data, seed, Path(folder)))
        if not args.json:
            print(rows[-1], flush=True)

    def mean(figure: Callable[[dict[str, Any]], float]) -> float:
        return round(statistics.mean(map(figure, rows)), 3)

    means = {
        "points": {p: mean(lambda row, p=p: row[p]["points"]) for p in PRECISIONS},  # type: ignore[misc]
        "int8_labels_changed": mean(lambda row: row["int8"]["labels_changed"]),
        "int8_expected_changes": mean(lambda row: row["expected_changes"]),
    }
    print(json.dumps({"model": args.model, "data": args.data.name, "seeds": rows, "means": means}))


if __name__ == "__main__":
    main()
