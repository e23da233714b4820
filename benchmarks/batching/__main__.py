"""`python -m benchmarks.batching`: the table of docs/batching.md, the same on every host."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from shipworthy.scheduling.simulator import Deadlines, Engine, FixedDelay, Load, Model, Policy, simulate

TARGET = 0.05
LOADS = (0.5, 0.8, 1.0, 1.2, 2.0)
SEED = 11


@dataclass(frozen=True)
class Case:
    name: str
    engine: Engine
    sizes: Sequence[int]
    rooms: Sequence[int | None]
    seconds: float

    @property
    def capacity(self) -> float:
        """Requests a second in the best batch that is done within the target."""
        best = max(size / seconds for size, seconds in self.engine.seconds.items() if seconds <= TARGET)
        return best * self.engine.streams

    def grid(self) -> list[FixedDelay]:
        """The settings among which a user of fixed delays chooses."""
        return [FixedDelay(*setting) for setting in product(self.sizes, (0.0, 0.005), self.rooms)]


CASES = (
    Case(
        "two streams that gain little by batches (ResNet-50 on two cores)",
        Engine({1: 0.0095, 2: 0.018, 4: 0.035, 8: 0.069, 16: 0.137}, streams=2, noise=0.05),
        (1, 2, 4),
        (2, 4, 6, None),
        21.0,
    ),
    Case(
        "one stream with a fixed cost of 3 ms a batch",
        Engine({1: 0.004, 2: 0.005, 4: 0.007, 8: 0.011, 16: 0.019, 32: 0.035}, noise=0.05),
        (8, 16, 32),
        (8, 16, 24, None),
        11.0,
    ),
    Case(
        "one stream that lives on batches (1 ms and 50 µs a row)",
        Engine({size: 0.001 + 0.00005 * size for size in (1, 4, 16, 64, 256, 512)}, noise=0.05),
        (64, 256, 512),
        (256, 512, None),
        2.5,
    ),
)


def measure(case: Case, policy: Policy, load: float) -> tuple[float, float]:
    """Goodput as a share of the capacity, and the share of those taken on that was in time."""
    rate = Load(rate=load * case.capacity, target=TARGET)
    models = [Model("m", case.engine, (rate,))]
    served = simulate(models, policy, seconds=case.seconds, warmup=1.0, seed=SEED).models["m"]
    return served.goodput / case.capacity, served.timely


def named(policy: FixedDelay) -> str:
    room = "endless" if policy.capacity is None else str(policy.capacity)
    return f"{policy.largest} / {1e3 * policy.delay:g} ms / {room}"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    for case in CASES:
        say(f"\n**{case.name}**, capacity {case.capacity:,.0f} requests/s\n")
        say("| load | by deadline | in time | best fixed delay at this load | in time | best over all loads | usual |")
        say("|---|---|---|---|---|---|---|")
        found = {load: {policy: measure(case, policy, load) for policy in case.grid()} for load in LOADS}
        # The setting that loses least at the load where it is worst.
        best = {load: max(good for good, _ in found[load].values()) for load in LOADS}
        steady = max(case.grid(), key=lambda policy: min(found[load][policy][0] / best[load] for load in LOADS))
        usual = FixedDelay(max(case.sizes), 0.01)
        for load in LOADS:
            good, timely = measure(case, Deadlines(), load)
            peer = max(found[load], key=lambda policy: found[load][policy])
            cells = [
                f"{load:g} ×",
                f"**{good:.1%}**",
                f"{timely:.1%}",
                f"{found[load][peer][0]:.1%} ({named(peer)})",
                f"{found[load][peer][1]:.1%}",
                f"{found[load][steady][0]:.1%} ({named(steady)})",
                f"{measure(case, usual, load)[0]:.1%}",
            ]
            say("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
