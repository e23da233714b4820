"""`shipworthy verify`: hashes, schema, and a replay of the golden cases."""

from __future__ import annotations

from typing import Annotated

import typer

from .registry_option import PackageName, RegistryUrl

NAME = "verify"

NOTHING_REPLAYED = 1


def command(
    package: PackageName,
    replay: Annotated[bool, typer.Option(help="Run every variant that this host can run on the golden cases.")] = True,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Also run variants that carry executable code.")
    ] = False,
    registry: RegistryUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Prove that a package is whole and that it answers here as it did when it was built.

    Exit code: 0 proven, 1 whole but no variant can run here, 2 refused."""
    from ..package import verify
    from ..registry import locate
    from .show import print_verification

    report = verify(locate(package, registry), replay=replay, allow_code=allow_code)
    print_verification(report, as_json=as_json)
    if replay and not any(row.replayed for row in report.variants):
        raise typer.Exit(NOTHING_REPLAYED)
