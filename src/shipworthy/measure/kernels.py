"""Whether a candidate executes in the precision that it claims."""

from __future__ import annotations

from collections.abc import Sequence

from ..contract.spec import Precision
from ..runtime.protocol import Kernel

MOST = 0.5
"""Share of the heavy kernels below which a precision is not what most of the work is done in."""


def precision_refusal(kernels: Sequence[Kernel], claimed: Precision) -> str | None:
    """Why the claim is false, or None. Only heavy kernels (products and convolutions) count: they decide the speed.

    A lower precision must be executed by at least one of them, for an engine may rightly keep some in fp32 (see
    `precision_note`); and fp32 by all, for an engine may lower the precision without being asked."""
    heavy = [kernel for kernel in kernels if kernel.heavy]
    total = sum(kernel.count for kernel in heavy)
    executed = sum(kernel.count for kernel in heavy if kernel.precision == claimed)
    if claimed == "fp32":
        others = sorted({kernel.precision for kernel in heavy} - {"fp32", "fp64"})
        return f"claims fp32, but heavy kernels execute in {', '.join(others)}" if others else None
    if executed:
        return None
    if not total:
        return f"claims {claimed}, but the engine shows no matrix product or convolution that could execute in it"
    found = ", ".join(sorted({kernel.precision for kernel in heavy}))
    return f"claims {claimed}, but all {total} heavy kernels execute in {found}"


def executed_share(kernels: Sequence[Kernel], precision: str) -> float:
    """The share of the heavy kernels, by their number, that execute in a precision; 0 where there are none."""
    heavy = [kernel for kernel in kernels if kernel.heavy]
    executed = sum(kernel.count for kernel in heavy if kernel.precision == precision)
    return executed / max(1, sum(kernel.count for kernel in heavy))


def precision_note(kernels: Sequence[Kernel], claimed: Precision) -> str | None:
    """What there is to say of a claim that holds for fewer than half of the heavy kernels, or None.

    That is no false claim: a search that keeps a metric within its limit may leave most operations in float, and
    whether the rest is worth it is measured. But who reads `int8` should know of it."""
    share = executed_share(kernels, claimed)
    if claimed == "fp32" or not 0 < share < MOST:
        return None
    total = sum(kernel.count for kernel in kernels if kernel.heavy)
    others = ", ".join(sorted({kernel.precision for kernel in kernels if kernel.heavy} - {claimed}))
    return f"{round(share * total)} of {total} heavy kernels execute in {claimed}, the others in {others}"
