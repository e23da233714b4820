"""The build's page: one HTML file with everything inside, which asks no other host for anything."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from ...contract import Contract
from ...errors import MissingExtra
from ...evidence import BuildRecord
from . import charts, figures, layers, view

if TYPE_CHECKING:
    import jinja2


def render_html(record: BuildRecord, contract: Contract) -> str:
    """The report as one HTML document of about 1 MB: the chart library is inside, once.

    Every text from the record and the contract is escaped, and the page's own policy forbids it any network.
    Raises MissingExtra where the build extra is not installed."""
    pictures = charts.figures_of(record)
    curves = charts.latency_curves(record)
    specs = {f"picture-{figure.name}": charts.chart_spec(figure.chart) for figure in pictures}
    done = layers.steps(record)
    specs |= layers.chart_specs(done)
    specs |= {f"latency-{index}": charts.chart_spec(chart) for index, (_, chart) in enumerate(curves)}
    shown = view.ranked(record)
    untried = [row for row in shown if row.verdict == "skipped"]
    named = {f"{row.id}: {row.reason}" for row in untried}
    template = _templates().get_template("report.html.j2")
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
        specs=_script_json(specs),
        library=_vega() if specs else "",
        fig=figures,
    )


@cache
def _templates() -> jinja2.Environment:
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("the report", "jinja2", "build") from error
    loader = jinja2.PackageLoader("shipworthy.select.report", "templates")
    return jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script; making it takes over a second, so it is kept."""
    try:
        import vl_convert
    except ImportError as error:
        raise MissingExtra("the report", "vl_convert", "build") from error
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub forgets the default
    return bundle.replace("</script", "<\\/script")


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _contract_text(contract: Contract) -> str:
    from ...contract import contract_toml

    return contract_toml(contract)
