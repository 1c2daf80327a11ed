#!/usr/bin/env bash
# Guessed: av.open(url, timeout=...) raises one error, of a timeout, when a server accepts and never answers.
# Seen: two others, by protocol: InvalidDataError for rtsp, ExitError ("Immediate exit requested") for http, rtmp and tcp.
# Neither says that time ran out: a program must measure it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'av==18.1.0'
"$folder/venv/bin/python" - <<'PY'
import socket
import sys
import threading

import av

listener = socket.create_server(("127.0.0.1", 0))
kept = []


def accept():
    while True:
        kept.append(listener.accept()[0])


threading.Thread(target=accept, daemon=True).start()
seen = {}
for scheme in ("rtsp", "http", "rtmp", "tcp"):
    try:
        av.open(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/live", timeout=(1, 1))
    except Exception as error:
        seen[scheme] = type(error).__name__
print(f"Python {sys.version.split()[0]}, PyAV {av.__version__}, {av.library_versions['libavformat']}")
print(seen)
expected = {"rtsp": "InvalidDataError", "http": "ExitError", "rtmp": "ExitError", "tcp": "ExitError"}
sys.exit(0 if seen == expected else 1)
PY
