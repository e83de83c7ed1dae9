"""``python -m rtserve`` is the command line."""

from rtserve.cli.main import main

main()
