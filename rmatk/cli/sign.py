"""``rmatk sign``: a signature that devices check with ``--trust``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from rmatk.cli import app
from rmatk.cli.echo import echo
from rmatk_runtime.errors import command


@app.command()
def sign(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A bundle written by rmatk export.", show_default=False)
    ],
    key: Annotated[
        Path, typer.Option(metavar="FILE", help="An Ed25519 private key (PEM), as openssl genpkey writes it.")
    ],
    release: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Devices refuse smaller ones than they have run; that of the signature in the bundle, or "
            "the time in seconds, if unset.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What releases are counted for; the model's name if unset."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Sign a bundle and its engines for devices with trusted keys.

    A device checks the signature with --trust. Sign again after changing labels or building engines.
    """
    from rmatk.cli.console import print_json, print_next
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.bundle.manifest import MANIFEST
    from rmatk_runtime.files import locked
    from rmatk_runtime.trust.keys import load_private_key
    from rmatk_runtime.trust.signature import read_signature, sign_bundle

    private = load_private_key(key)
    Bundle.open(bundle)  # what is damaged is not signed
    with locked(bundle):
        opened, _ = Bundle.read(bundle)
        former = read_signature(bundle)
        if release is None:
            release = former.release if former is not None else int(time.time())
        name = name or (former.name if former is not None else opened.manifest.model.name)
        data = (bundle / MANIFEST).read_bytes()
        signature = sign_bundle(bundle, data, private, name=name, release=release)
    if as_json:
        print_json(signature)
        return
    engines = f" and {len(signature.engines)} engines" if signature.engines else ""
    echo(f"signed {bundle}{engines}: release {signature.release} of {signature.name}, key {signature.key}")
    print_next(command("rmatk", "infer", bundle, "--trust", "KEYS", "--camera", 0))
