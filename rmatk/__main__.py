"""``python -m rmatk``: the command line where its script is not on the path."""

from rmatk.cli import main

main()
