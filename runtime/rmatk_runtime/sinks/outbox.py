"""A bounded queue of messages and a thread that sends them, so that inference never waits for a network.

What cannot be sent now is tried again, after waits that grow; meanwhile the oldest messages give way to newer
ones. A network never ends a run: it is logged once when it fails and once when it works again.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 0.25, 5.0
CLOSE_SECONDS = 0.5


class Unsent(Exception):
    """The message could not be sent now; it is tried again."""


class Refused(Exception):
    """The other side does not want this message; it is given up."""


class Outbox:
    """Hands messages to ``send`` one after another, in a thread of its own.

    Args:
        name: of the receiver, free of credentials, for the log.
        send: called from the thread; raises Unsent or Refused where a message does not get through.
        why: says in the end why nothing gets through, where a try that still waits has not raised it.
        limit: messages kept; more push out the oldest, which count in ``dropped``.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[bytes], None],
        *,
        why: Callable[[], str | None] = lambda: None,
        limit: int = 256,
    ) -> None:
        self.dropped = 0
        self._reason: Exception | None = None  # why a message did not get through, the last time
        self._name, self._send, self._why, self._limit = name, send, why, limit
        self._messages: deque[bytes] = deque()
        self._under_way = False  # whether a message is with ``send``
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=f"rmatk-send {name}", daemon=True)
        self._thread.start()

    def put(self, message: bytes) -> None:
        """Take a message; never waits."""
        with self._changed:
            if len(self._messages) == self._limit:
                self._messages.popleft()
                self.dropped += 1
            self._messages.append(message)
            self._changed.notify_all()

    def close(self) -> None:
        """Send what is left, for less than a second; calling it twice does no harm."""
        with self._changed:
            already, self._closing = self._closing, True
            self._changed.notify_all()
        self._thread.join(CLOSE_SECONDS)
        with self._changed:
            waits, lost = self._under_way, self.dropped + len(self._messages) + self._under_way
        if lost and not already:
            unknown = "no answer yet" if waits else "they came faster than they were taken"
            why = self._why() or self._reason or unknown
            log.warning("%s: %d results were not delivered: %s", self._name, lost, why)

    def _work(self) -> None:
        failures = 0
        while (message := self._next()) is not None:
            try:
                self._send(message)
            except Refused as error:
                log.warning("%s refuses a result: %s", self._name, error)
                self._reason = error
                self.dropped += 1
            except Unsent as error:
                failures += 1
                self._reason = error
                if failures == 1 and not self._closing:  # else close tells why
                    log.warning("%s cannot be reached, trying again: %s", self._name, error)
                if not self._keep_and_wait(message, failures):
                    return
            else:
                if failures:
                    log.warning("%s can be reached again", self._name)
                failures = 0

    def _next(self) -> bytes | None:
        """The oldest message, waited for; None once closed and empty."""
        with self._changed:
            self._under_way = False
            self._changed.wait_for(lambda: self._closing or bool(self._messages))
            self._under_way = bool(self._messages)
            return self._messages.popleft() if self._messages else None

    def _keep_and_wait(self, message: bytes, failures: int) -> bool:
        """Put an unsent message back in front and wait; whether to go on."""
        with self._changed:
            self._under_way = False
            if len(self._messages) < self._limit:
                self._messages.appendleft(message)
            else:  # it would be the first to give way
                self.dropped += 1
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures - 1, 10))
            return not self._changed.wait_for(lambda: self._closing, wait)
