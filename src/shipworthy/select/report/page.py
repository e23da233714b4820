"""The build's page: one HTML file with everything inside, which asks no other host for anything."""

from __future__ import annotations

from ...contract import Contract
from ...evidence import BuildRecord
from ...pages import chart_spec, script_json, templates, vega
from . import charts, figures, layers, view


def render_html(record: BuildRecord, contract: Contract) -> str:
    """The report as one HTML document of about 1 MB: the chart library is inside, once.

    Every text from the record and the contract is escaped, and the page's own policy forbids it any network.
    Raises MissingExtra where the build extra is not installed."""
    pictures = charts.figures_of(record)
    curves = charts.latency_curves(record)
    specs = {f"picture-{figure.name}": chart_spec(figure.chart) for figure in pictures}
    done = layers.steps(record)
    specs |= layers.chart_specs(done)
    specs |= {f"latency-{index}": chart_spec(chart) for index, (_, chart) in enumerate(curves)}
    shown = view.ranked(record)
    untried = [row for row in shown if row.verdict == "skipped"]
    named = {f"{row.id}: {row.reason}" for row in untried}
    template = templates("shipworthy.select.report").get_template("report.html.j2")
    return template.render(
        record=record,
        contract=contract,
        contract_text=_contract_text(contract),
        headline=view.headline(record, contract),
        rows=shown,
        untried=untried,
        unasked=[words for words in record.skipped if words not in named],
        pictures=pictures,
        steps=done,
        curves=[row for row, _ in curves],
        specs=script_json(specs),
        library=vega() if specs else "",
        fig=figures,
    )


def _contract_text(contract: Contract) -> str:
    from ...contract import contract_toml

    return contract_toml(contract)
