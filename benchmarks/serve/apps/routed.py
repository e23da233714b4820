"""`shipworthy serve` of a model in a registry, in one of several states, to see what following and routing cost.

    python routed.py STATE serve PACKAGE ...

Runs in the environment of Shipworthy, and keeps the registry in the working folder. Both versions are the same package,
so that what differs from serving its file is the registry, the router, and that two engines share the requests."""

from __future__ import annotations

import sys
from pathlib import Path

STATES: dict[str, tuple[str, dict[str, object]] | None] = {
    "registry": None,
    # A share of next to nothing: what the router itself costs, with hardly a second engine.
    "router": ("canary", {"ramp": (0.0001,), "stage_requests": 10**9}),
    "canary": ("canary", {"ramp": "1", "stage_requests": 10**9}),
    "A/B": ("ab", {"share": "50%"}),
    "shadow": ("shadow", {}),
}
"""Mode and options of the rollout that runs; none in the first."""


def _registered(package: str, state: str) -> tuple[str, str]:
    """The name to serve, and the registry that has it."""
    from shipworthy.registry import Registry
    from shipworthy.rollout import Rollouts, Spec

    with Registry(Path("registry").absolute()) as registry:
        champion = registry.register(package, aliases=["champion"])
        asked = STATES[state]
        if asked is not None:
            challenger = registry.register(package)
            Rollouts(registry).start(challenger.model, challenger.name, Spec.from_options(*asked))
        return f"{champion.model}@champion", registry.url


if __name__ == "__main__":
    state, verb, package, *words = sys.argv[1:]
    name, url = _registered(package, state)
    from shipworthy.cli import main

    sys.argv[1:] = [verb, name, "--registry", url, *words]
    main()
