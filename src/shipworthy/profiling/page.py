"""A profile as one HTML file with everything inside, which asks no other host for anything."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from ..errors import MissingExtra
from . import figures, flame
from .report import ProfileReport
from .table import slowest

if TYPE_CHECKING:
    import jinja2


def render_html(report: ProfileReport, top: int) -> str:
    """The page: the flame picture, the first `top` operations, regions and nodes, and every module.

    Every text is escaped, and the page's own policy forbids it any network. Raises MissingExtra without jinja2."""
    template = _templates().get_template("profile.html.j2")
    found = report.torch
    return template.render(
        report=report,
        found=found,
        modules=() if found is None else slowest(found.modules),
        svg="" if found is None else flame.flame_svg(found.flame),
        legend=flame.LEGEND,
        top=top,
        fig=figures,
    )


@cache
def _templates() -> jinja2.Environment:
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("the page of a profile", "jinja2", "build") from error
    loader = jinja2.PackageLoader("shipworthy.profiling", "templates")
    return jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
