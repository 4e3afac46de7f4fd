"""`python -m allkit`."""

from allkit.cli import main

main()
