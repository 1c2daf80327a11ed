"""The page as a sink: it accepts each result in microseconds and never waits for a viewer."""

from __future__ import annotations

from pathlib import Path

from rmatk_runtime.errors import SinkError
from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.inference.regions import Regions
from rmatk_runtime.inference.summary import Tally
from rmatk_runtime.sinks.base import Sink
from rmatk_runtime.sources.base import Source
from rmatk_runtime.web.api import Api
from rmatk_runtime.web.app import make_app
from rmatk_runtime.web.limits import Turns
from rmatk_runtime.web.live import Live
from rmatk_runtime.web.meter import Meter
from rmatk_runtime.web.server import Address, WebServer
from rmatk_runtime.web.snapshots import Snapshots


class WebSink(Sink):
    """Serves the page from construction on. ``url``: where.

    Args:
        bundle: whose labels the page edits.
        classifier: the running one, which the page's threshold and ``/v1/classify`` use.
        source: the running one, for its state.
        tally: what the loop counts.
        address: where to listen.
        token: what viewers must know; needed off the loopback.
        snapshots: the folder for pictures kept, if wanted.
        regions: those in use, which the page changes.

    Raises:
        SinkError: no token where one is needed, or the address cannot be listened on.
        StorageError: the folder for snapshots cannot be made.
    """

    def __init__(
        self,
        bundle: Path,
        classifier: Classifier,
        source: Source,
        tally: Tally,
        address: Address,
        *,
        token: str | None = None,
        snapshots: Path | None = None,
        regions: Regions | None = None,
    ) -> None:
        address.check_token(token)
        self._live = Live()
        self._meter = Meter(source, tally)
        kept = None if snapshots is None else Snapshots(snapshots)
        self._turns = Turns()
        api = Api(bundle, classifier, self._live, self._meter, kept, regions or Regions(), self._turns)
        self._server = WebServer(make_app(api, token), address)
        self.url = self._server.url

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Show a result. Raises SinkError where the server has ended."""
        if not self._server.alive:
            raise SinkError("the web server has ended", "the log says why; start again")
        self._meter.count(frame, prediction)
        self._live.put(frame, prediction)

    def close(self) -> None:
        """Let the viewers go and stop listening."""
        self._live.close()
        self._turns.close()
        self._server.close()
