"""`python -m reconciler`: the same as `imgctl`."""

from reconciler.cli import main

if __name__ == "__main__":
    main()
