"""What a package's manifest.json says (format 1)."""

from __future__ import annotations

from pydantic import Field

from ..contract import Contract, Signature, Strict
from ..contract.spec import Precision
from ..evidence import LatencyPoint
from ..runtime.protocol import OperatingPoint

FORMAT = 1


class Requirements(Strict):
    """What a variant needs of a host. Read by `runtime.host.unmet`."""

    engine: str
    engine_version: str | None = None
    """Version it was measured with; informs, does not refuse."""
    arch: str | None = None
    """x86-64 or aarch64, for compiled code; None where any will do."""
    isa: tuple[str, ...] = ()
    """CPU flags that compiled code uses."""
    device: str = "cpu"
    executes_code: bool = False


class Variant(Strict):
    """One runnable candidate inside a package."""

    id: str
    precision: Precision
    directory: str
    """Relative to the package, such as variants/openvino-fp32."""
    requires: Requirements
    points: tuple[OperatingPoint, ...]
    """Measured operating points, the best first."""
    latency: tuple[LatencyPoint, ...] = ()
    tolerance: dict[str, float]
    """Absolute, per output; against the golden eager answers."""


class FileEntry(Strict):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Manifest(Strict):
    format: int = FORMAT
    name: str
    created: str
    """UTC, ISO 8601."""
    contract_digest: str
    contract: Contract
    signature: Signature
    variants: tuple[Variant, ...] = Field(min_length=1)
    """In the order of preference: the chosen one first."""
    files: dict[str, FileEntry]
    """Every file but manifest.json and DIGEST, by its path with forward slashes."""
