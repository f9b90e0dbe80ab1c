"""`python -m kilotune`."""

from kilotune.cli.main import main

if __name__ == "__main__":
    main()
