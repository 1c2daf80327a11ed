"""Where frames come from: images, videos, cameras, streams, pipelines and a test pattern.

:func:`open_source` turns what a person types into a :class:`Source`; nothing else needs to know the kinds.

    photo.jpg  folder/  'shots/*.png'     images and videos; a folder is walked in natural order
    clip.mp4                              video file, every frame
    0  /dev/video0  v4l2://dev/video0     camera of this machine
    csi://0                               camera on a Jetson's ribbon cable
    rtsp://...  http://...                network camera; one that serves single pictures is polled
    udp://  rtp://  srt://  rtmp://  FILE.sdp   other streams, as far as FFmpeg was built to read them
    gst:PIPELINE                          any GStreamer pipeline that ends in raw video
    -                                     JPEGs on standard input
    test://640x480@30?frames=100&seed=1   pattern with a moving object
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import msgspec

from rmatk_runtime.errors import SourceError
from rmatk_runtime.pictures.files import is_image, natural_key
from rmatk_runtime.sources.base import Source, SourceInfo, SourceState
from rmatk_runtime.sources.camera import open_camera
from rmatk_runtime.sources.chain import ChainSource, LoopSource
from rmatk_runtime.sources.credentials import without_credentials
from rmatk_runtime.sources.gstreamer import open_csi, open_gstreamer
from rmatk_runtime.sources.images import ImageSource
from rmatk_runtime.sources.media import list_media, open_clip
from rmatk_runtime.sources.mjpeg import open_stdin
from rmatk_runtime.sources.network import SCHEMES, is_description, open_network
from rmatk_runtime.sources.options import DEFAULTS, SourceOptions
from rmatk_runtime.sources.pattern import open_pattern
from rmatk_runtime.sources.several import SeveralSources
from rmatk_runtime.sources.video import VideoSource

__all__ = ["Source", "SourceInfo", "SourceOptions", "SourceState", "names_files", "open_source"]

_FILE = "file://"
_NAMED = re.compile(r"([\w-][\w.-]{0,39})=(.+)", re.DOTALL)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCHEMES = {
    "test": open_pattern,
    "csi": open_csi,
    "v4l2": open_camera,
    **dict.fromkeys(SCHEMES, open_network),
}
_KNOWN = "use a file, a folder, a glob, 0, csi://0, rtsp://..., http://..., gst:PIPELINE, - or test://"


def open_source(*uris: str, options: SourceOptions = DEFAULTS) -> Source:
    """Open one source over everything in ``uris``.

    Files are read in the order given; neighbouring images become one source, so that a thousand names from a
    shell's glob are read as a folder. Several cameras, and cameras beside files, are read at the same time;
    ``NAME=URI`` names one.

    Raises:
        SourceError: nothing there, an unknown scheme, nothing readable, an option it does not have, a name
            given twice; a camera that cannot be reached, if it is the only source.
        MissingExtraError: a video or camera, and PyAV is not installed.
    """
    if not uris:
        raise SourceError("no source was given", _KNOWN)
    given = [split_name(uri) for uri in uris]
    names = [name for name, _ in given if name]
    if twice := {name for name in names if names.count(name) > 1}:
        raise SourceError(f"two sources are named {min(twice)}", "give each a name of its own")
    files = [uri for name, uri in given if not name and not _comes_by_itself(uri)]
    alone = [(name, uri) for name, uri in given if name or _comes_by_itself(uri)]
    if not alone:
        return _open_files(files, options)
    if len(given) > 1:
        options = msgspec.structs.replace(options, patient=True)
    parts: list[tuple[str, Source]] = []
    try:
        for name, uri in alone:
            source = _open_live(uri, options) if _comes_by_itself(uri) else _open_files([uri], options)
            parts.append((name, source))
        if files:
            parts.append(("", _open_files(files, options)))
        return _together(parts)
    except BaseException:
        for _, source in parts:
            source.close()
        raise


def split_name(uri: str) -> tuple[str, str]:
    """``front=rtsp://...`` as its name and the rest; without a name it is empty. A path may contain ``=``."""
    match = _NAMED.fullmatch(uri)
    if match is None or Path(uri).exists() or (names_files(match[2]) and not Path(match[2]).exists()):
        return "", uri
    return match[1], match[2]


def _together(parts: Sequence[tuple[str, Source]]) -> Source:
    """One source of several; those without a name get that of their address."""
    if not any(name or source.info.live for name, source in parts):
        sources = [source for _, source in parts]
        return sources[0] if len(sources) == 1 else ChainSource(sources)
    if len(parts) == 1 and not parts[0][0]:
        return parts[0][1]
    named: dict[str, Source] = {}
    for name, source in parts:
        wanted = unused = name or source.info.name
        number = 1
        while unused in named:
            number += 1
            unused = f"{wanted} ({number})"
        named[unused] = source
    return SeveralSources(named)


def _open_files(uris: Sequence[str], options: SourceOptions) -> Source:
    """Images and videos, one after another."""
    sources: list[Source] = []
    images: list[Path] = []

    def gather() -> None:
        if images:
            sources.append(ImageSource(images.copy(), options))
            images.clear()

    try:
        for uri in uris:
            if not names_files(uri):  # a pattern that waits to be taken, as a file does
                gather()
                sources.append(_open_live(uri, options))
                continue
            paths, several = _expand(uri)
            for path in paths:
                if is_image(path):
                    images.append(path)
                else:
                    gather()
                    sources.append(open_clip(path, options) if several else VideoSource(path, options))
        gather()
    except BaseException:
        for source in sources:
            source.close()
        raise
    source = sources[0] if len(sources) == 1 else ChainSource(sources)
    return LoopSource(source) if options.loop else source


def names_files(uri: str) -> bool:
    """Whether ``uri`` is a path or a glob, not a camera, a stream or the pattern."""
    if uri.isdecimal() or uri == "-" or uri.startswith("/dev/video") or is_description(uri):
        return False
    if uri.lower().startswith("gst:"):
        return Path(uri).exists()  # a path is a path, whatever colons it holds
    return _SCHEME.match(uri) is None or uri.lower().startswith(_FILE)


def _comes_by_itself(uri: str) -> bool:
    """Whether frames come whether or not somebody takes them."""
    return not names_files(uri) and not (uri.lower().startswith("test://") and "live=0" in uri.lower())


def _open_live(uri: str, options: SourceOptions) -> Source:
    """The camera, stream or pattern that ``uri`` names."""
    if uri.isdecimal() or uri.startswith("/dev/video"):
        return open_camera(uri, options)
    if uri == "-":
        return open_stdin(uri, options)
    if is_description(uri):
        return open_network(uri, options)
    if uri.lower().startswith("gst:"):
        return open_gstreamer(uri, options)
    scheme = uri.partition("://")[0]
    opener = _SCHEMES.get(scheme.lower())
    if opener is None:
        raise SourceError(f"{without_credentials(uri)}: the scheme {scheme}:// is not known", _KNOWN)
    return opener(uri, options)


def _expand(uri: str) -> tuple[list[Path], bool]:
    """The existing files that ``uri``, a path or a glob, stands for, and whether it could be several."""
    path = Path(unquote(uri[len(_FILE) :]) if uri.lower().startswith(_FILE) else uri).expanduser()
    if path.is_dir():
        return list_media(path), True
    if path.exists():
        return [path], False
    if not glob.has_magic(uri):
        raise SourceError(f"no such file, folder or camera: {without_credentials(uri)}", _KNOWN)
    # glob, not Path.glob, which refuses absolute patterns
    found = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207
    deep = "**" in uri  # which finds what is in the folders by itself
    files = [entry for entry in found if entry.is_file()]
    for folder in () if deep else filter(Path.is_dir, found):
        files += list_media(folder)
    if not files:
        raise SourceError(
            f"nothing matches {without_credentials(uri)}", "quote the pattern, and check it with ls"
        )
    return sorted(files, key=lambda entry: natural_key(str(entry))), True
