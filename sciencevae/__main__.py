"""``python -m sciencevae``."""

import sys

from sciencevae.cli import main

if __name__ == "__main__":
    sys.exit(main())
