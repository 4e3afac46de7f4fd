"""`python -m allkit`."""

import os
import sys

if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]  # what lies in the working folder is no module of ours, whatever its name

from allkit.cli import main

main()
