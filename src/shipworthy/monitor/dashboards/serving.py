"""Panels of what is served, whoever watches it."""

from __future__ import annotations

from ...server.observe import families as server
from .queries import NAME, RATE, Panel, Query, Row, of, quantile, rate

SERVING = Row(
    "Serving, and versions beside each other",
    (
        Panel(
            "Requests by version",
            "timeseries",
            server.REQUESTS.help,
            (Query(rate(server.REQUESTS), NAME),),
            unit="reqps",
            low=0,
        ),
        Panel(
            "Latency",
            "timeseries",
            server.REQUEST_SECONDS.help,
            (quantile(0.5, server.REQUEST_SECONDS), quantile(0.99, server.REQUEST_SECONDS)),
            unit="s",
            log=True,
        ),
        Panel(
            "Requests that failed or were refused",
            "timeseries",
            f"{server.FAILED.help} {server.SHED.help}",
            (
                Query(rate(server.FAILED, by="model, version, fault"), f"{NAME} fault of {{{{fault}}}}"),
                Query(rate(server.SHED, by="model, version, reason"), f"{NAME} shed: {{{{reason}}}}"),
            ),
            unit="reqps",
            low=0,
        ),
        Panel(
            "Queue and engine, p99",
            "timeseries",
            f"{server.QUEUE_SECONDS.help} {server.COMPUTE_SECONDS.help}",
            (
                quantile(0.99, server.QUEUE_SECONDS),
                quantile(0.99, server.COMPUTE_SECONDS),
            ),
            unit="s",
            log=True,
        ),
        Panel(
            "Rows in a batch, on average",
            "timeseries",
            server.BATCH_ROWS.help,
            (Query(f"{rate(server.BATCH_ROWS, '_sum')} / {rate(server.BATCH_ROWS, '_count')}", NAME),),
            low=0,
        ),
        Panel(
            "In flight and waiting",
            "timeseries",
            f"{server.IN_FLIGHT.help} {server.WAITING.help}",
            (
                Query(f"sum by (model, version) ({of(server.IN_FLIGHT)})", f"{NAME} in flight"),
                Query(f"sum by (model, version) ({of(server.WAITING)})", f"{NAME} waiting"),
            ),
            low=0,
        ),
        Panel(
            "Processor",
            "timeseries",
            server.CPU.help,
            (Query(f"rate({server.CPU.name}[{RATE}])", "{{instance}}"),),
            low=0,
        ),
        Panel("Memory", "timeseries", server.RSS.help, (Query(server.RSS.name, "{{instance}}"),), unit="bytes", low=0),
        Panel(
            "Workers, and whether all are ready",
            "timeseries",
            f"{server.WORKERS.help} {server.READY.help}",
            (Query(server.WORKERS.name, "{{instance}} workers"), Query(server.READY.name, "{{instance}} ready")),
            low=0,
        ),
    ),
)
