"""docs/SERVING.md: its client runs as printed, against tritonclient's own types and what was written."""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc
from google.protobuf import text_format
from PIL import Image
from tritonclient.grpc import model_config_pb2, service_pb2

from rmatk_export.serving.triton import TritonOptions, write_triton
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import MANIFEST, encode_manifest

DOCUMENT = Path(__file__).parents[3] / "docs" / "SERVING.md"
REAL = tritonclient.grpc.InferenceServerClient


class Answer:
    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def as_numpy(self, name: str) -> np.ndarray:
        assert name == "probabilities"
        return self.rows


def server(repository: Path) -> type:
    """A client whose calls, checked against the real one's signatures, end in the repository's own graphs."""

    class Client:
        def __init__(self, url: str) -> None:
            assert url == "localhost:8001"

        def get_model_config(self, *args, **options):
            bound = inspect.signature(REAL.get_model_config).bind(self, *args, **options)
            text = (repository / bound.arguments["model_name"] / "config.pbtxt").read_text()
            parsed = text_format.Parse(text, model_config_pb2.ModelConfig())
            return service_pb2.ModelConfigResponse(config=parsed)

        def infer(self, *args, **options) -> Answer:
            bound = inspect.signature(REAL.infer).bind(self, *args, **options).arguments
            (request,), (wanted,) = bound["inputs"], bound["outputs"]
            name = bound["model_name"]
            assert (request.name(), request.datatype(), wanted.name()) == ("pixels", "UINT8", "probabilities")
            values = np.frombuffer(request._get_content(), np.uint8).reshape(request.shape())
            for part in ("image_encoder", "classifier"):
                session = onnxruntime.InferenceSession(repository / f"{name}_{part}" / "1" / "model.onnx")
                (values,) = session.run(None, {session.get_inputs()[0].name: values})
            labels = (repository / name / "labels.txt").read_text().splitlines()
            best = np.argsort(-values, axis=1)[
                :, : wanted._get_tensor().parameters["classification"].int64_param
            ]
            rows = [
                [f"{row[i]:f}:{i}:{labels[i]}".encode() for i in top]
                for row, top in zip(values, best, strict=True)
            ]
            return Answer(np.array(rows, dtype=object))

    return Client


@pytest.mark.parametrize("threshold", [None, 0.999])
def test_the_client_answers_with_labels(
    tiny_bundle: Path, photos: Path, tmp_path, monkeypatch, capsys, threshold
):
    bundle = Bundle.open(Path(shutil.copytree(tiny_bundle, tmp_path / "bundle")))
    decision = msgspec.structs.replace(bundle.manifest.decision, reject_threshold=threshold)
    manifest = msgspec.structs.replace(bundle.manifest, decision=decision)
    (bundle.path / MANIFEST).write_bytes(encode_manifest(manifest))
    write_triton(Bundle.open(bundle.path), tmp_path / "models", TritonOptions("waste"))
    for name in ("red_stripe", "blue_dot"):
        Image.open(photos / name / "0.png").save(photos / f"{name}.jpg", quality=95)
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    monkeypatch.setattr(tritonclient.grpc, "InferenceServerClient", server(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(DOCUMENT), "exec"), {})
    said = [line.rsplit(" ", 1) for line in capsys.readouterr().out.splitlines()]
    assert len(said) == 2 and all(0 < float(probability) <= 1 for _, probability in said)
    labels = {label for label, _ in said}
    assert labels == {"rejected"} if threshold else labels <= set(bundle.classes().names)
