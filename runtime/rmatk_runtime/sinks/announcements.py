"""Sensors announced to Home Assistant by MQTT, so that they appear there without being configured.

Source: https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import msgspec

from rmatk_runtime import __version__


class Announcements:
    """One sensor per topic; ``prefix``: the first level of the topics that Home Assistant listens to."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._announced: set[str] = set()

    def new(self, topic: str, status: str) -> Iterator[tuple[str, bytes]]:
        """The topic and the message that announce a sensor, unless it has been announced.

        Args:
            topic: where the records of the sensor are published.
            status: where this process publishes whether it is ``online``.
        """
        if topic in self._announced:
            return
        base = status.rpartition("/")[0]
        identity, device = _identity(topic), _identity(base)
        announcement = {
            "name": topic.removeprefix(base).strip("/") or "label",
            "unique_id": identity,
            "state_topic": topic,
            "value_template": "{{ value_json.label or 'unsure' }}",
            "json_attributes_topic": topic,
            "availability_topic": status,
            "icon": "mdi:cctv",
            "device": {"identifiers": [device], "name": f"rmatk {base}", "sw_version": __version__},
            "origin": {"name": "rmatk", "sw_version": __version__},
        }
        yield f"{self._prefix}/sensor/{identity}/config", msgspec.json.encode(announcement)
        self._announced.add(topic)


def _identity(topic: str) -> str:
    """The same after a restart, and another for another topic; of the characters that are allowed."""
    digest = hashlib.sha256(topic.encode()).hexdigest()[:8]
    return f"rmatk_{re.sub(r'[^A-Za-z0-9_-]', '_', topic)[:60]}_{digest}"
