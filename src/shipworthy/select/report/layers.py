"""What a recipe did to a model, layer by layer: the pictures beside its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...evidence import BuildRecord, Compression, Epoch, QuantizedOperation
from ...pages import altair, chart_spec, drawn, layered
from . import theme
from .view import Row, ranked

_MOST = 60
"""Operations in one picture; the most sensitive ones are shown."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one candidate's recipe. A step that several candidates share stands once."""

    anchor: str
    rows: tuple[Row, ...]
    """The candidates that it is part of."""
    compression: Compression
    sensitivity: Any | None
    """A chart of the SQNR of each operation; None where none was measured."""
    training: Any | None
    """A chart of loss and metric by epoch; None where nothing was trained."""

    @property
    def kept(self) -> tuple[QuantizedOperation, ...]:
        """The operations that were kept in float."""
        return tuple(op for op in self.compression.operations if op.precision != "int8")


def steps(record: BuildRecord) -> list[Step]:
    """Every step of every recipe that was carried out, those of the chosen candidate first."""
    shared: list[tuple[Compression, list[Row]]] = []
    for row in ranked(record):
        for compression in row.result.compression:
            known = next((rows for other, rows in shared if other == compression), None)
            if known is None:
                shared.append((compression, [row]))
            else:
                known.append(row)
    return [
        Step(f"step-{number}", tuple(rows), compression, _sensitivity(compression), _training(compression.epochs))
        for number, (compression, rows) in enumerate(shared)
    ]


def chart_specs(found: list[Step]) -> dict[str, Any]:
    """The charts by the id of the element that they are drawn into."""
    specs = {}
    for step in found:
        for name, chart in (("sensitivity", step.sensitivity), ("training", step.training)):
            if chart is not None:
                specs[f"{step.anchor}-{name}"] = chart_spec(chart)
    return specs


def _sensitivity(compression: Compression) -> Any | None:
    """One bar for each operation, the most damaged first; float is another colour and another shape."""
    measured = sorted((op for op in compression.operations if op.sqnr_db is not None), key=lambda op: op.sqnr_db or 0)
    if not measured:
        return None
    alt = altair()
    shown = measured[:_MOST]
    values = [
        {"operation": op.name, "type": op.op, "sqnr": op.sqnr_db, "precision": op.precision, "reason": op.reason}
        for op in shown
    ]
    words = sorted({op.precision for op in shown}, key=lambda word: word != "int8")
    colours = alt.Scale(domain=words, range=[theme.COLOURS["accepted"], theme.COLOURS["rejected"]][: len(words)])
    base = drawn(values).encode(
        y=alt.Y("operation:N", sort=[op.name for op in shown], title=None, axis=alt.Axis(labelLimit=320)),
        tooltip=["operation:N", "type:N", alt.Tooltip("sqnr:Q", title="SQNR, dB"), "precision:N", "reason:N"],
    )
    scale = alt.Scale(domain=[0, max(60.0, *(op.sqnr_db or 0 for op in shown))], clamp=True)
    x = alt.X("sqnr:Q", title="SQNR of the operation's own output, dB", scale=scale)
    rule = base.mark_bar(height={"band": 0.6}).encode(x=x, color=alt.Color("precision:N", scale=colours))
    return layered(rule, description="Sensitivity of each operation", height=max(80, 18 * len(shown)))


def _training(epochs: tuple[Epoch, ...]) -> Any | None:
    if len(epochs) < 2:
        return None
    alt = altair()
    values = [
        {"epoch": epoch.number, "value": value, "what": what}
        for epoch in epochs
        for what, value in (("training loss", epoch.loss), ("validation metric", epoch.validation))
        if value is not None
    ]
    lines = (
        drawn(values)
        .mark_line(point=True)
        .encode(
            x=alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
            color=alt.Color("what:N", scale=alt.Scale(range=[theme.COLOURS["rejected"], theme.COLOURS["chosen"]])),
            tooltip=["epoch:Q", "what:N", alt.Tooltip("value:Q", format=".4f")],
        )
    )
    return layered(lines, description="Loss and metric by epoch", height=180)
