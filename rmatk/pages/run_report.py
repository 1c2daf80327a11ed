"""``report.html`` of a run: training curve, confusion matrix, mistakes and settings in one file."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

import msgspec
import numpy as np
import numpy.typing as npt

from rmatk.data.photos import Dataset
from rmatk.pages.html import confusion, curve, document, figure, percent, rows
from rmatk.run import METRICS, RunRecord, accuracies
from rmatk_runtime.files import write_atomic
from rmatk_runtime.intervals import with_interval
from rmatk_runtime.pictures.decode import Decoding, load_image

REPORT = "report.html"
_TEMPLATE = Path(__file__).with_name("report.html")
_NOT_CURVES = ("step", "epoch")
_MISTAKES = 18


@dataclass(frozen=True)
class ValidationAnswers:
    """What the model says of the validation photos.

    ``probabilities`` (N, C) float64 at the run's temperature; ``zero_shot`` (N,) int64: CLIP's own
    answers. Photos are in the order of ``photos.flat()``.
    """

    photos: Dataset
    probabilities: npt.NDArray[np.float64]
    zero_shot: npt.NDArray[np.int64]


def write_report(folder: Path, record: RunRecord, answers: ValidationAnswers) -> None:
    """Write ``report.html`` beside the ``metrics.jsonl`` in ``folder``.

    Raises:
        StorageError: disk full, no permission.
        DataError: a validation photo cannot be read any more.
    """
    lines = [msgspec.json.decode(line) for line in (folder / METRICS).read_bytes().splitlines()]
    names = [name for name in lines[0] if name not in _NOT_CURVES]
    config = record.config
    body = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        summary=f"{len(record.train_files)} training shots, {len(lines)} steps, seed {config.seed}.",
        figures="".join(f"<div><b>{value}</b>{name}</div>" for name, value in _headline(record)),
        notes="".join(f"<p>Note: {escape(note)}</p>" for note in record.notes),
        curves="".join(curve(name, [line[name] for line in lines]) for name in names),
        validation=_validation(answers, Decoding(record.preprocess.stretch))
        if len(answers.probabilities)
        else "<p>There were no photos to spare.</p>",
        settings=rows(_settings(record)),
    )
    title = f"{config.model}, {len(record.class_names)} classes"
    write_atomic(folder / REPORT, document(title, body))


def _headline(record: RunRecord) -> list[tuple[str, str]]:
    shown = []
    for found in accuracies(record):
        for name, value, (low, high) in (
            ("zero-shot", found.zero_shot, found.zero_shot_interval),
            ("adapted", found.adapted, found.adapted_interval),
        ):
            interval = f"95 %: {100 * low:.1f} to {100 * high:.1f}"
            shown.append((f"{name}, on {found.images} {found.photos} ({interval})", percent(value)))
    return shown


def _validation(answers: ValidationAnswers, decoding: Decoding) -> str:
    """Accuracy by class, the confusion matrix, and the mistakes the model was surest of."""
    names = answers.photos.class_names
    truth = np.array(answers.photos.flat()[1])
    said = answers.probabilities.argmax(axis=1)
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (truth, said), 1)
    table = rows(
        (name, str(own.sum()), *(with_interval(float(v), int(own.sum())) for v in (zero_shot, adapted)))
        for number, name in enumerate(names)
        if (own := truth == number).any()
        for zero_shot, adapted in [(np.mean(answers.zero_shot[own] == number), np.mean(said[own] == number))]
    )
    mistakes = _mistakes(answers, truth, said, decoding) or "<p>None.</p>"
    return (
        "<p>Accuracy on photos that were not trained on, with 95 % confidence intervals (Wilson).</p>"
        "<table><tr><th>class</th><th>photos</th><th>zero-shot</th><th>adapted</th></tr>"
        f"{table}</table><h3>What is taken for what</h3><p>A row is a true class, a column an answer.</p>"
        f'{confusion(names, counts)}<h3>The surest mistakes</h3><div class="pictures">{mistakes}</div>'
    )


def _mistakes(
    answers: ValidationAnswers,
    truth: npt.NDArray[np.int64],
    said: npt.NDArray[np.int64],
    decoding: Decoding,
) -> str:
    sure = answers.probabilities.max(axis=1)
    wrong = np.flatnonzero(said != truth)
    files, names = answers.photos.flat()[0], answers.photos.class_names
    return "".join(
        figure(
            load_image(files[i], decoding),
            f"{names[truth[i]]}: taken for {names[said[i]]}, {sure[i]:.0%}",
            False,
        )
        for i in wrong[np.argsort(-sure[wrong], kind="stable")][:_MISTAKES]
    )


def _settings(record: RunRecord) -> list[tuple[str, str]]:
    """Every setting, what it was fitted to, and what it was made with."""
    calibration = record.calibration
    threshold = calibration.reject_threshold
    return [
        *((name, _plain(value)) for name, value in msgspec.structs.asdict(record.config).items()),
        ("temperature", f"{calibration.temperature:.4g}"),
        ("reject below", "never" if threshold is None else f"{threshold:.3f}"),
        ("logit scale", f"{record.logit_scale:.4g}"),
        ("photos", record.data),
        ("backbone digest", record.backbone_digest),
        ("adapter digest", record.adapter_sha256),
        *record.versions.items(),
    ]


def _plain(value: object) -> str:
    """A setting as a reader would write it: lists by commas, nothing where it is unset."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
