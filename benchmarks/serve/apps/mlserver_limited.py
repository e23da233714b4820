"""`mlserver` with a limit of connections for its REST server, beyond which uvicorn answers 503.

    python mlserver_limited.py LIMIT start FOLDER

MLServer hands `_custom_rest_server_settings` to uvicorn, but reads settings with a leading underscore from no file."""

import sys

from mlserver.cli import main
from mlserver.settings import Settings

if __name__ == "__main__":
    # Every refusal is a warning.
    limited = {"limit_concurrency": int(sys.argv[1]), "log_level": "error"}
    Settings.__private_attributes__["_custom_rest_server_settings"].default = limited
    sys.argv[1:] = sys.argv[2:]
    main()
