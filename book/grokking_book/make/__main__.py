"""`python -m grokking_book.make`: what `make book` runs."""

import sys

from grokking_book.make.build import main

if __name__ == "__main__":
    sys.exit(main())
