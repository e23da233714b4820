"""`python -m shipworthy`: the same as the `shipworthy` command."""

from .cli import main

main()
