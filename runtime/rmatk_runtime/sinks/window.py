"""A window with the annotated picture, by Python's tkinter, which needs no package."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

from PIL import Image

from rmatk_runtime.errors import SinkError
from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.sinks.annotate import draw
from rmatk_runtime.sinks.base import Sink
from rmatk_runtime.sinks.whole import Gathering, Looked

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
        self._new_label = partial(tkinter.Label, self._root, borderwidth=0)
        self._labels: dict[str, tkinter.Label] = {}
        self._photos: dict[str, ImageTk.PhotoImage] = {}  # tkinter itself does not keep them
        self._gathering, self._drawn = Gathering(), dict[str, float]()
        self._limits = self._root.winfo_screenwidth() * _SHARE, self._root.winfo_screenheight() * _SHARE
        for event in ("<Escape>", "q"):
            self._root.bind(event, lambda _: on_close())
        self._root.protocol("WM_DELETE_WINDOW", on_close)
        self._root.update()
        self._open = True

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Show one picture, unless the last of its camera was shown a moment ago."""
        looked = self._gathering.add(frame, prediction)
        if looked is not None and time.monotonic() - self._drawn.get(frame.camera, -_INTERVAL) >= _INTERVAL:
            self._show(looked)
        self._root.update()

    def _show(self, looked: Looked) -> None:
        """Put a picture into its camera's place; several cameras stand in a grid."""
        camera = looked.frame.camera
        if camera not in self._labels:
            self._labels[camera] = self._new_label()
            self._columns = math.ceil(math.sqrt(len(self._labels)))
            for number, label in enumerate(self._labels.values()):
                label.grid(row=number // self._columns, column=number % self._columns)
        picture = Image.fromarray(draw(looked))
        picture.thumbnail((self._limits[0] / self._columns, self._limits[1] / self._columns))
        self._photos[camera] = self._photo_image(picture, master=self._root)
        self._labels[camera].configure(image=self._photos[camera])
        self._drawn[camera] = time.monotonic()

    def idle(self) -> None:
        """Answer keys, and redraw what was covered, while no result comes."""
        self._root.update()

    def close(self) -> None:
        """Close the window."""
        if self._open:
            self._open = False
            self._root.destroy()
