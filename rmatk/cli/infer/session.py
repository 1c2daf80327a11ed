"""The parts of a run, for the outputs that display or control it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rmatk.cli.echo import echo
from rmatk.cli.infer.signals import signals_ask
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.inference.config import InferConfig
from rmatk_runtime.inference.loop import Stop, run
from rmatk_runtime.inference.regions import Regions
from rmatk_runtime.inference.summary import Summary, Tally
from rmatk_runtime.sources import Source

if TYPE_CHECKING:
    from rmatk.cli.infer.outputs import Outputs


@dataclass(frozen=True)
class Session:
    """A bundle, what it looks at, how, how far it has come, and the way to end it."""

    bundle: Path
    classifier: Classifier
    source: Source
    options: InferConfig
    regions: Regions = field(default_factory=Regions)
    stop: Stop = field(default_factory=Stop)
    tally: Tally = field(default_factory=Tally)

    def run(self, outputs: Outputs) -> Summary:
        """Go through the source until it ends, a limit is reached, or someone asks for the end."""
        self.regions.check(tuple(self.source.cameras))
        if self.regions.kept:
            echo(f"note: regions kept beside the bundle: {', '.join(self.regions.kept)}", err=True)
        with signals_ask(self.stop):
            # Outputs are opened last: a mistyped bundle or input must not empty yesterday's results
            sinks = outputs.open(self)
            return run(self.source, self.classifier, sinks, self.options, self.stop, self.tally, self.regions)
