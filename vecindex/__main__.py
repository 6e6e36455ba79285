"""`python -m vecindex`: the command line."""

from vecindex.cli import main

if __name__ == "__main__":
    main()
