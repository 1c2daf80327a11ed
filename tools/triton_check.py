"""A model repository of ``rmatk export --triton`` in Triton's own server, on the CPU, without a container.

    python tools/triton_check.py bundle models/waste

The server is the one inside the package nvidia-pytriton, put into a folder that goes again. It has no backend
for ONNX Runtime, so tools/triton_backend.py stands in for that; all else is Triton's. Checked are: that every
model loads, the ensemble's answers against the bundle's on the golden set, labels by the classification
extension, and that requests which come at once are put together. Triton 2.51's Python backend needs NumPy 1.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from rmatk_export.serving.check import own_answers
from rmatk_export.serving.record import marker
from rmatk_runtime.arrays import UInt8
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.label_head import LabelHead
from rmatk_runtime.pictures.preprocess import resize

SERVER, PACKAGES = "nvidia-pytriton==0.7.0", ("numpy<2", "onnxruntime<1.21")
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-3, "int8": 1e-2}  # another ONNX Runtime: other sums, other roundings
AT_ONCE = 40


def install(folder: Path) -> tuple[Path, dict[str, str]]:
    """Put Triton's server and the stand-in into ``folder`` -> the server's folder and its environment."""
    venv.create(folder / "env", with_pip=True)
    pip = [str(folder / "env" / "bin" / "python"), "-m", "pip", "install", "-q"]
    subprocess.run([*pip, "--no-deps", SERVER], check=True)
    subprocess.run([*pip, *PACKAGES], check=True)
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    triton = packages / "pytriton" / "tritonserver"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    for file in (triton / "python_backend_stubs" / python).iterdir():
        shutil.copy(file, triton / "backends" / "python" / file.name)
    (triton / "backends" / "onnxruntime").mkdir()
    shutil.copy(
        Path(__file__).with_name("triton_backend.py"), triton / "backends" / "onnxruntime" / "model.py"
    )
    for program in (
        triton / "bin" / "tritonserver",
        triton / "backends" / "python" / "triton_python_backend_stub",
    ):
        program.chmod(0o755)
    # The Python inside the server takes the packages of the first python on PATH.
    path = os.pathsep.join([str(folder / "env" / "bin"), os.environ["PATH"]])
    libraries = str(packages / "nvidia_pytriton.libs")
    return triton, {**os.environ, "PATH": path, "LD_LIBRARY_PATH": libraries}


@contextmanager
def serving(
    triton: Path, environment: dict[str, str], repository: Path
) -> Iterator[grpc.InferenceServerClient]:
    """A client of the server, ready, for as long as the context lasts."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(triton / "bin" / "tritonserver"), f"--model-repository={repository.resolve()}"]
    command += [f"--backend-directory={triton / 'backends'}", f"--grpc-port={port}"]
    command += ["--grpc-address=127.0.0.1", "--allow-http=false", "--allow-metrics=false"]
    with (triton / "log.txt").open("w+") as log:
        server = subprocess.Popen(command, env=environment, cwd=triton, stdout=log, stderr=subprocess.STDOUT)
        try:
            client = grpc.InferenceServerClient(f"127.0.0.1:{port}")
            while not ready(client):
                if server.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"the server ended by itself:\n{log.read()}")
                time.sleep(0.5)
            yield client
        finally:
            server.terminate()
            server.wait()


def ready(client: grpc.InferenceServerClient) -> bool:
    """Whether every model is loaded."""
    try:
        return bool(client.is_server_ready())
    except InferenceServerException:
        return False


def ask(
    client: grpc.InferenceServerClient, model: str, pixels: UInt8, classes: int = 0
) -> np.ndarray[Any, Any]:
    """The ensemble's probabilities (N, C), or its best labels."""
    request = grpc.InferInput("pixels", list(pixels.shape), "UINT8")
    request.set_data_from_numpy(pixels)
    wanted = grpc.InferRequestedOutput("probabilities", class_count=classes)
    return client.infer(model, [request], outputs=[wanted]).as_numpy("probabilities")


def check(client: grpc.InferenceServerClient, bundle: Bundle, precision: str, model: str) -> list[str]:
    """What was found, a line each; raises AssertionError where it is not as it should be."""
    own, names = own_answers(bundle, bundle.graph(precision)), bundle.classes().names
    pixels = np.stack([resize(image, bundle.manifest.preprocess) for image in own.images])
    expected = LabelHead(bundle.classes(), bundle.manifest.decision).probabilities(own.embeddings)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = [index % len(pixels) for index in range(AT_ONCE)]
        found = np.concatenate(list(pool.map(lambda row: ask(client, model, pixels[row : row + 1]), rows)))
    apart = float(np.abs(found - expected[rows]).max())
    assert apart < TOLERANCE[precision], f"a probability differs from the bundle's by {apart:.2e}"
    statistics = client.get_inference_statistics(f"{model}_image_encoder").model_stats[0]
    passes, pictures = statistics.execution_count, statistics.inference_count
    labels = [answer[0].decode().split(":", 2)[2] for answer in ask(client, model, pixels[:1], classes=1)]
    assert labels == [names[int(expected[0].argmax())]], f"the label is {labels}"
    return [
        f"{precision}: largest difference of a probability from the bundle's own: {apart:.1e}",
        f"{pictures} pictures that came at once were encoded in {passes} passes",
        f"the label of {own.names[0]}: {labels[0]}",
    ]


def main() -> None:
    """Install, serve, ask, say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("repository", type=Path, help="what rmatk export BUNDLE --triton wrote")
    options = parser.parse_args()
    bundle = Bundle.open(options.bundle)
    record = json.loads((options.repository / marker("triton")).read_text(encoding="utf-8"))
    (ensemble,) = (
        path.parent.name for path in options.repository.glob("*/config.pbtxt") if is_ensemble(path)
    )
    with tempfile.TemporaryDirectory(prefix="rmatk-triton-") as folder:
        triton, environment = install(Path(folder))
        with serving(triton, environment, options.repository) as client:
            version = client.get_server_metadata().version
            print(f"Triton {version} serves {ensemble}; the ONNX Runtime backend is a stand-in")
            print("\n".join(check(client, bundle, record["precision"], ensemble)))


def is_ensemble(config: Path) -> bool:
    """Whether a configuration is the ensemble's."""
    return 'platform: "ensemble"' in config.read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
