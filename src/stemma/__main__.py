"""Run the command line as ``python -m stemma``."""

from stemma.cli import main

main()
