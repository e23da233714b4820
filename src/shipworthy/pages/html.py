"""Templates, and the chart library that stands inside a page."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtra

if TYPE_CHECKING:
    import jinja2


@cache
def templates(package: str) -> jinja2.Environment:
    """Those in the folder `templates` of a package, and those that all pages share; every text is escaped.

    Raises MissingExtra where the build extra is not installed."""
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("the report", "jinja2", "build") from error
    own, shared = (jinja2.PackageLoader(name, "templates") for name in (package, __package__))
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([own, shared]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


@cache
def vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script; making it takes over a second, so it is kept."""
    try:
        import vl_convert
    except ImportError as error:
        raise MissingExtra("the report", "vl_convert", "build") from error
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub forgets the default
    return bundle.replace("</script", "<\\/script")


def script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
