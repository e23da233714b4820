"""Whether a candidate executes in the precision that it claims."""

from __future__ import annotations

from collections.abc import Sequence

from ..contract.spec import Precision
from ..runtime.protocol import Kernel


def precision_refusal(kernels: Sequence[Kernel], claimed: Precision) -> str | None:
    """Why the claim is false, or None. Only heavy kernels (products and convolutions) count: they decide the speed.

    A lower precision must be executed by at least one of them, for an engine may rightly keep some in fp32; and
    fp32 by all, for an engine may lower the precision without being asked."""
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
