"""A window with the annotated picture, by Python's tkinter, which needs no package."""

from __future__ import annotations

import time
from collections.abc import Callable

from PIL import Image

from rmatk_runtime.errors import SinkError
from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.sinks.annotate import annotate
from rmatk_runtime.sinks.base import Sink

_INTERVAL = 1 / 30  # seconds between two pictures: more are not seen, and cost the engine its processor
_SHARE = 0.9  # of the screen, at most


class WindowSink(Sink):
    """Shows results as they come; Escape, ``q`` or closing the window calls ``on_close``.

    Belongs to one thread from construction to :meth:`close`, as tkinter wants it.
    """

    def __init__(self, title: str, on_close: Callable[[], None]) -> None:
        try:
            import tkinter

            from PIL import ImageTk
        except ImportError as error:
            raise SinkError(
                f"--window needs tkinter, which this Python lacks: {error}", "sudo apt-get install python3-tk"
            ) from error
        try:
            self._root = tkinter.Tk(className="rmatk")
        except tkinter.TclError as error:
            raise SinkError(
                f"--window finds no screen: {error}",
                "run it on the desktop, or look on with --web or --video",
            ) from error
        self._root.title(title)
        self._root.configure(background="black")
        self._photo_image = ImageTk.PhotoImage
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack(expand=True)
        self._limits = self._root.winfo_screenwidth() * _SHARE, self._root.winfo_screenheight() * _SHARE
        self._drawn = -_INTERVAL
        for event in ("<Escape>", "q"):
            self._root.bind(event, lambda _: on_close())
        self._root.protocol("WM_DELETE_WINDOW", on_close)
        self._root.update()
        self._open = True

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Show one result, unless the last was shown a moment ago."""
        if time.monotonic() - self._drawn >= _INTERVAL:
            picture = Image.fromarray(annotate(frame.image, prediction))
            picture.thumbnail(self._limits)
            photo = self._photo_image(picture, master=self._root)
            self._label.configure(image=photo)
            self._photo = photo  # tkinter itself does not keep it
            self._drawn = time.monotonic()
        self._root.update()

    def idle(self) -> None:
        """Answer keys, and redraw what was covered, while no result comes."""
        self._root.update()

    def close(self) -> None:
        """Close the window."""
        if self._open:
            self._open = False
            self._root.destroy()
