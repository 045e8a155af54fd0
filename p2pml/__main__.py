"""`python -m p2pml` is the `p2pml` command."""

from p2pml.cli import main

if __name__ == "__main__":
    main()
