"""Format 1: what its manifest may say, and how it is written.

    DIGEST               sha256 of manifest.json in hexadecimal digits, and a line feed
    manifest.json        `Manifest`: the contract, the variants in the order of preference, every other file's
                         sha256 and size
    variants/<id>/...    graphs; below each variant's directory its engine's entry file
    golden.safetensors   tensors named `case/inputs/name` and `case/outputs/name`
    evidence.json        `BuildRecord`
    report.html card.md
    assets/...           optional: files that the contract names, such as tokenizers
    reference/<id>.safetensors
                         optional, for each variant: what a monitor compares live data with, a file of
                         `signals.file` with a format number of its own
    signature.json       optional, reserved: a signature

Every file but the first two is listed in the manifest, and no other file may be there. A path has slashes between plain
ASCII parts (`members.misnamed`), and no two differ only by case. The rules of this page never change; a change is a new
format with a page of its own, and this one stays."""

from __future__ import annotations

import json
import math

from pydantic import ValidationError

from ..contract import Contract, TextEncode
from ..errors import PackageError
from ..runtime import ENGINES
from .manifest import Manifest, Variant
from .members import CARD, EVIDENCE, GOLDEN, REFERENCE, REPORT, VARIANTS

REQUIRED = (GOLDEN, EVIDENCE, REPORT, CARD)


def manifest_bytes(manifest: Manifest) -> bytes:
    """The canonical text: fields in the order of their definition, files sorted by path, two spaces, a line feed.

    Other keys keep their order, because that of inputs and outputs is that of the module's arguments and results."""
    content = manifest.model_dump(mode="json")
    content["files"] = dict(sorted(content["files"].items()))
    return (json.dumps(content, indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def parse_manifest(text: bytes, where: str) -> Manifest:
    """Read a manifest whose files have been audited. Raises PackageError naming the key that makes no sense."""
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise PackageError(where, first_fault(error), "update shipworthy, or build the package again") from None
    for reason in _faults(manifest):
        raise PackageError(where, reason, "build the package again")
    return manifest


def first_fault(error: ValidationError) -> str:
    """The first thing that pydantic has to say, on one line."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]


def _faults(manifest: Manifest) -> list[str]:
    faults = [f"the file {name} is not listed" for name in REQUIRED if name not in manifest.files]
    if manifest.signature != manifest.contract.signature:
        faults.append("signature: is not that of the contract")
    ids = [variant.id for variant in manifest.variants]
    faults += [f"variants: {name!r} occurs twice" for name in ids if ids.count(name) > 1]
    known = {reference_name(name) for name in ids}
    faults += [
        f"the file {name} is the reference of no variant"
        for name in manifest.files
        if name.startswith(f"{REFERENCE}/") and name not in known
    ]
    for name, tokenizer in tokenizers_of(manifest.contract).items():
        if tokenizer not in manifest.files:
            faults.append(f"encode.{name}.tokenizer: the file {tokenizer!r} is not listed")
    for variant in manifest.variants:
        faults += [f"variant {variant.id!r}: {fault}" for fault in variant_faults(variant, set(manifest.files))]
    return faults


def reference_name(variant: str) -> str:
    """The member that is the reference of a variant."""
    return f"{REFERENCE}/{variant}.safetensors"


def tokenizers_of(contract: Contract) -> dict[str, str]:
    """The tokenizer files that a contract names, by the key below `encode`."""
    return {name: encode.tokenizer for name, encode in contract.encode.items() if isinstance(encode, TextEncode)}


def variant_faults(variant: Variant, files: set[str]) -> list[str]:
    """What is wrong with a variant. An engine that this version does not know is no fault: it is passed over later."""
    faults = []
    if not all(math.isfinite(allowed) and allowed >= 0 for allowed in variant.tolerance.values()):
        faults.append("a tolerance is no finite number of at least 0")
    if not variant.directory.startswith(f"{VARIANTS}/"):
        faults.append(f"its directory {variant.directory!r} is not below {VARIANTS}/")
    engine = ENGINES.get(variant.requires.engine)
    if engine is None:
        return faults
    if not engine.packable:
        faults.append(f"the engine {engine.name!r} needs the user's own code, and cannot be in a package")
    if engine.executes_code and not variant.requires.executes_code:
        faults.append(f"a graph of {engine.name!r} carries executable code, but requires.executes_code is false")
    if f"{variant.directory}/{engine.entry}" not in files:
        faults.append(f"the file {variant.directory}/{engine.entry} is not listed")
    return faults
