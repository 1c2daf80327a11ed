"""``python -m rmatk``: the command line without its script on the path."""

from rmatk.cli import main

main()
