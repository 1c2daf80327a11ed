"""Signed bundles: each way in which one can be wrong has its own error, and the right one runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import BundleError, TrustError
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.labels import watch
from rmatk_runtime.labels.editor import rename_label
from rmatk_runtime.tensorrt.key import Machine
from rmatk_runtime.tensorrt.store import survey
from rmatk_runtime.trust.keys import load_private_key, load_trusted_keys
from rmatk_runtime.trust.releases import state_file
from rmatk_runtime.trust.signature import SIGNATURE, sign_bundle


def write_pair(folder: Path, name: str) -> Path:
    """A private key, and its public half in ``folder/trusted``."""
    key = Ed25519PrivateKey.generate()
    (folder / "trusted").mkdir(exist_ok=True)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "trusted" / f"{name}.pub").write_bytes(public)
    private = folder / f"{name}.key"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return private


def sign(bundle: Path, key: Path, release: int = 5, name: str = "camera") -> None:
    sign_bundle(
        bundle, (bundle / "manifest.json").read_bytes(), load_private_key(key), name=name, release=release
    )


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return write_pair(tmp_path, "vendor")


@pytest.fixture
def trusted(vendor: Path) -> Path:
    return vendor.parent / "trusted"


def test_a_signed_bundle_runs(copy: Path, vendor: Path, trusted: Path):
    sign(copy, vendor)
    for keys in (trusted, trusted / "vendor.pub"):
        with Classifier.open(copy, backend="cpu", trust=keys) as classifier:
            assert classifier.classify([np.zeros((9, 9, 3), np.uint8)])
    assert list(json.loads(state_file().read_text()).values()) == [5]


@pytest.mark.parametrize("file", ["image_encoder.onnx", "classes.npz", "manifest.json", SIGNATURE])
def test_a_flipped_byte_is_an_error(copy: Path, vendor: Path, trusted: Path, file: str):
    sign(copy, vendor)
    data = bytearray((copy / file).read_bytes())
    place = data.index(b'"key": "') + 8 if file == SIGNATURE else len(data) // 2
    data[place] ^= 1
    (copy / file).write_bytes(data)
    with pytest.raises(BundleError, match="altered|not trusted|is not a signature"):
        Bundle.open(copy, trusted)


def test_another_release_number_is_an_error(copy: Path, vendor: Path, trusted: Path):
    sign(copy, vendor)
    text = (copy / SIGNATURE).read_text()
    (copy / SIGNATURE).write_text(text.replace('"release": 5', '"release": 9'))
    with pytest.raises(TrustError, match="its signature is wrong"):
        Bundle.open(copy, trusted)


def test_no_signature_and_a_foreign_one_are_errors(copy: Path, vendor: Path, trusted: Path, tmp_path: Path):
    with pytest.raises(TrustError, match="is not signed, and trusted keys were given"):
        Bundle.open(copy, trusted)
    (tmp_path / "elsewhere").mkdir()
    sign(copy, write_pair(tmp_path / "elsewhere", "stranger"))
    with pytest.raises(TrustError, match="signed by the key [0-9a-f]{16}, which is not trusted"):
        Bundle.open(copy, trusted)
    assert Bundle.open(copy).signature is None  # nobody asked


def test_an_older_release_than_one_that_ran_is_an_error(copy: Path, vendor: Path, trusted: Path):
    sign(copy, vendor, release=4)
    old = Path(shutil.copytree(copy, copy.parent / "old"))
    sign(copy, vendor, release=5)
    Bundle.open(old, trusted)  # read, not run
    Classifier.open(copy, backend="cpu", trust=trusted).close()
    with pytest.raises(TrustError, match="release 4 of 'camera' is older than 5, which this device has run"):
        Classifier.open(old, backend="cpu", trust=trusted)
    sign(old, vendor, release=4, name="another camera")
    Classifier.open(old, backend="cpu", trust=trusted).close()


def test_damaged_notes_of_releases_are_an_error(copy: Path, vendor: Path, trusted: Path):
    sign(copy, vendor)
    state_file().parent.mkdir(parents=True)
    state_file().write_text('{"x": "y"}')
    with pytest.raises(TrustError, match="releases.json cannot be read"):
        Bundle.open(copy, trusted)


def test_labels_changed_on_the_device_count_once_its_own_key_has_signed(
    copy: Path, vendor: Path, trusted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    device = write_pair(tmp_path, "device")
    sign(copy, vendor)
    times = iter(range(0, 1000, 2))
    look = watch.LabelWatch(Bundle.open(copy, trusted), clock=lambda: float(next(times)))
    assert look.poll() is None
    rename_label(copy, "blue dot", "blue spot")
    with pytest.raises(TrustError, match="altered after it was signed"):
        Bundle.open(copy, trusted)
    assert look.poll() is None and "labels stay as they are" in caplog.text
    sign(copy, device)
    changed = look.poll()
    assert changed is not None and "blue spot" in changed[0].names


def test_engines_count_once_they_are_signed(copy: Path, vendor: Path, trusted: Path):
    (copy / "engines").mkdir()
    fixture = Path(__file__).parents[2] / "fixtures" / "v1.0" / "engine.json"
    shutil.copy(fixture, copy / "engines" / "x.json")
    (copy / "engines" / "x.engine").write_bytes(b"plan")
    here = Machine("x86_64", None, None, {})

    def reasons() -> str:
        return "; ".join(survey(Bundle.open(copy, trusted), here)[0].reasons)

    sign(copy, vendor)
    assert "not signed" not in reasons()
    (copy / "engines" / "x.json").write_text(fixture.read_text().replace('"layers"', ' "layers"'))
    assert "it is not signed" in reasons()


@pytest.mark.parametrize(
    "content", [b"", b"no key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_what_is_no_key_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "x.pub").write_bytes(content)
    for load in (load_private_key, load_trusted_keys):
        with pytest.raises(TrustError, match=r"x\.pub"):
            load(tmp_path / "x.pub")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrustError, match="contains no keys"):
        load_trusted_keys(tmp_path / "empty")


def test_the_command_line(rmatk, copy: Path, vendor: Path, trusted: Path, tmp_path: Path):
    code, out, _ = rmatk("sign", copy, "--key", vendor, "--release", 7, "--json")
    assert code == 0 and json.loads(out)["release"] == 7
    assert rmatk("parity", copy, "--trust", trusted, "--json")[0] == 0
    code, _, error = rmatk("infer", copy, "test://?frames=1&live=0", "--trust", trusted, "--backend", "cpu")
    assert code == 0, error
    assert rmatk("sign", copy, "--key", vendor)[1].count("release 7 of") == 1
    (tmp_path / "old").mkdir()
    assert rmatk("sign", copy, "--key", vendor, "--release", 6)[0] == 0
    code, _, error = rmatk("parity", copy, "--trust", trusted)
    assert code == 1 and "is older than 7" in error and "Traceback" not in error
