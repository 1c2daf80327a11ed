"""Notices that a bundle's labels were changed during a run, and reads the new ones.

Labels are data beside the graph, so they can change while the engine runs. Whoever changes them replaces the
class matrix first and ``manifest.json`` last, each atomically: a new manifest is the signal.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import MANIFEST, Decision, Manifest
from rmatk_runtime.errors import BundleError
from rmatk_runtime.trust.signature import SIGNATURE

log = logging.getLogger(__name__)

PERIOD = 1.0  # seconds between two looks at the file system

_Stamp = tuple[int, int, int]


class LabelWatch:
    """Looks at an opened bundle's manifest, at most once a second, and reads labels that have changed.

    New labels that cannot be verified are reported in the log, once, and the old ones stay in use: a running
    camera does not stop because of a broken copy.
    """

    def __init__(self, bundle: Bundle, clock: Callable[[], float] = time.monotonic) -> None:
        self._bundle = bundle
        self._clock = clock
        self._next = clock() + PERIOD
        self._taken: _Stamp | None = None  # so the first look also sees a change since the bundle was opened
        self._refused: tuple[_Stamp | None, ...] | None = None

    def poll(self) -> tuple[ClassMatrix, Decision] | None:
        """The labels, if they have changed since the last call or since the bundle was opened."""
        now = self._clock()
        if now < self._next:
            return None
        self._next = now + PERIOD
        stamp = _stamp(self._bundle.path / MANIFEST)
        if stamp is None or stamp == self._taken:
            return None
        # What was refused is looked at again when a file changes: matrix or signature may come last
        others = (self._bundle.file(self._bundle.manifest.labels.file), self._bundle.path / SIGNATURE)
        seen = (stamp, *map(_stamp, others))
        if seen == self._refused:
            return None
        try:
            bundle, classes = self._read()
        except BundleError as error:
            self._refused = seen
            log.warning("labels stay as they are: %s", error.message)
            return None
        before, self._bundle, self._taken = self._bundle.manifest, bundle, stamp
        if _label_digest(before) == _label_digest(bundle.manifest):
            return None  # something else in the manifest has changed
        log.info("labels changed: now %d (%s)", len(classes.names), ", ".join(classes.names))
        return classes, bundle.manifest.decision

    def _read(self) -> tuple[Bundle, ClassMatrix]:
        """The bundle as it is on disk now and its labels, verified, if they belong to the model that runs.

        Raises:
            BundleError: damaged, half-written, or of another model.
        """
        path, running = self._bundle.path, self._bundle.manifest
        bundle, _ = Bundle.read(path, self._bundle.trust)
        manifest = bundle.manifest
        if (manifest.model, manifest.preprocess) != (running.model, running.preprocess) or (
            manifest.provenance.graph_digests != running.provenance.graph_digests
        ):
            raise BundleError(f"{path} now holds another model", "start again to take it over")
        bundle.verify(manifest.labels.file)
        return bundle, bundle.classes()


def _label_digest(manifest: Manifest) -> tuple[str, Decision]:
    return manifest.files[manifest.labels.file].sha256, manifest.decision


def _stamp(path: Path) -> _Stamp | None:
    """What tells a replaced or rewritten file from the one seen before; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
