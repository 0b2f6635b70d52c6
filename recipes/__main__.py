"""`python -m recipes`: train, check and explain from the command line."""

import sys

from recipes.cli import main

if __name__ == "__main__":
    sys.exit(main())
