"""How integers are laid out for a processor: what its multiply instructions take, and where they saturate."""

from __future__ import annotations

from dataclasses import dataclass

from ...runtime import Host

_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""x86 flags of instructions that add products of 8-bit numbers straight into 32 bits."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """Weights are always signed and symmetric, one scale per output channel."""

    signed_activations: bool
    """int8 instead of uint8."""
    symmetric_activations: bool
    """Zero point 0 where there are values of both signs."""
    narrow_weights: bool
    """7 bits: without dot-product instructions x86 adds pairs of 8-bit products in 16 bits, which saturate."""
    reason: str


def scheme_for(host: Host) -> Scheme:
    """The scheme of the processor that the graph will run on."""
    if host.arch == "aarch64":
        return Scheme(True, True, False, "signed symmetric activations, as the dot products of Arm take them")
    if host.isa & _DOT_PRODUCTS:
        return Scheme(False, False, False, "unsigned activations and full 8-bit weights: the processor has VNNI")
    why = "unsigned activations and 7-bit weights: without VNNI, sums of 8-bit products saturate in 16 bits"
    return Scheme(False, False, True, why)
