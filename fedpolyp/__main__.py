"""`python -m fedpolyp` is `fedpolyp`."""

from fedpolyp.cli import main

main()
