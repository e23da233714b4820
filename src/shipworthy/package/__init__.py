"""The wall between build and production: packages of format 1, written, audited, read, chosen from and replayed."""

from .audit import Label, read_label
from .choice import Choice, choose_variant, none_usable, obstacle
from .encoders import open_codec
from .golden import Golden, GoldenCase, ReplayReport, replay
from .manifest import FORMAT, FileEntry, Manifest, Requirements, Variant
from .read import Package, read_package
from .verification import VariantVerification, VerifyReport, artifact_of, best_point, verify
from .write import write_package, write_ship

__all__ = [
    "FORMAT",
    "Choice",
    "FileEntry",
    "Golden",
    "GoldenCase",
    "Label",
    "Manifest",
    "Package",
    "ReplayReport",
    "Requirements",
    "Variant",
    "VariantVerification",
    "VerifyReport",
    "artifact_of",
    "best_point",
    "choose_variant",
    "none_usable",
    "obstacle",
    "open_codec",
    "read_label",
    "read_package",
    "replay",
    "verify",
    "write_package",
    "write_ship",
]
