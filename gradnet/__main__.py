"""`python -m gradnet` is the gradnet command."""

import sys

from gradnet.cli import main

if __name__ == "__main__":
    sys.exit(main())
