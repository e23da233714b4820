"""The one place that knows all production rooms, and puts them together: a server with its registry and its rollouts.

Run as a module, it is a worker process of such a server."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from .server.plan import Plan

if TYPE_CHECKING:
    from .registry import Registry
    from .rollout.followed import Followed
    from .rollout.following import Follower
    from .rollout.live import Router
    from .rollout.receiving import Receiver
    from .server.binding import Options
    from .server.catalog import Catalog
    from .server.hosting import Serving
    from .server.routing import Parts

IMPORTS = (
    "shipworthy.rollout.followed",
    "shipworthy.rollout.following",
    "shipworthy.rollout.live",
    "shipworthy.rollout.receiving",
)
"""What a worker of a server with a registry imports before it is needed."""


class Registered:
    """What a registry puts into a server process."""

    def __init__(self, plan: Plan) -> None:
        """Raises RegistryError where the registry cannot be reached, or has not what the plan names."""
        from .registry import Registry
        from .rollout import prediction_key
        from .rollout.deaths import Trying
        from .rollout.instance import this_instance

        with ExitStack() as opened:
            registry = opened.enter_context(Registry(plan.registry, create=False))
            key, instance = prediction_key(registry), this_instance(worker=plan.share is not None)
            self._trying = opened.enter_context(closing(Trying(registry.url, key, plan.names, instance)))
            self._compose(registry, key, plan.names)
            # From now on it is the follower that closes the registry.
            opened.pop_all()

    def _compose(self, registry: Registry, key: bytes, names: Sequence[str]) -> None:
        from .rollout import Rollouts
        from .rollout.deaths import report
        from .rollout.followed import Followed
        from .rollout.following import Follower
        from .rollout.live import Router
        from .rollout.receiving import Receiver

        rollouts = Rollouts(registry)
        self.router: Router = Router(key, self._trying.routes)
        self.upstream: Followed = Followed(registry, rollouts, self.router, self._trying, names)
        self._follower: Follower = Follower(registry, rollouts, self.router, self.upstream.fetch)
        self.feedback: Receiver = Receiver(registry, key)
        report(self._trying.left(), rollouts, f"the one before process {os.getpid()} on {socket.gethostname()}")

    def begin(self, catalog: Catalog) -> None:
        self.upstream.begin()
        self._follower.begin(catalog)

    def drain(self) -> None:
        self._trying.close()

    async def end(self) -> None:
        try:
            await asyncio.to_thread(self.feedback.close)
            await self._follower.end()
        finally:
            self._trying.close()


def parts_of(plan: Plan) -> Parts | None:
    """What other rooms put into a process of this plan; None where it has no registry."""
    return Registered(plan) if plan.names else None


def serve(
    packages: str | Path | Sequence[str | Path] = (),
    *,
    workers: int = 1,
    on_ready: Callable[[Serving], None] | None = None,
    **options: Unpack[Options],
) -> None:
    """Serve packages (folders or `.ship` files), and models of a registry (`names`, such as digits@champion), until
    SIGTERM or SIGINT; then finish what is in flight, and return.

    A model that was named by an alias follows it: what the alias names next is loaded beside it and takes over between
    two batches. With several `workers`, each is a process with an engine of its own, and one that dies is replaced.
    `on_ready` is called once, when every model is loaded and proven. Raises ServeError where the address cannot be
    used, PackageError where a package is refused, and RegistryError where the registry has not what was named."""
    from .server import serve as host

    worker = {"worker": "shipworthy.compose"} if options.get("names") else {}
    host(packages, workers=workers, on_ready=on_ready, compose=parts_of, **worker, **options)


if __name__ == "__main__":
    from .server.worker import main

    main(parts_of, IMPORTS)
