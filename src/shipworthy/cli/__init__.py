"""The command line: one file per verb; parsing and printing, no logic.

Exit codes: 0 all is well; 1 `check` has warnings, or `verify` found no variant that runs here; 2 an error, of the
user's or of what was handed in; 3 `build` found no candidate that meets the contract, or `monitor score` found an
alarm."""

from __future__ import annotations

import sys

from ..errors import ShipworthyError
from .app import app, complain

__all__ = ["app", "main"]


def main() -> None:
    """Run the command; a fault that has a name ends in one line on stderr and exit code 2."""
    try:
        app()
    except ShipworthyError as error:
        complain(error)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); there is nobody left to tell.
        sys.stderr.close()
        sys.exit(141)
