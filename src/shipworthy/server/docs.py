"""The page at /docs. It loads nothing from other hosts: Swagger UI comes from an installed package."""

from __future__ import annotations

from importlib.resources import as_file, files

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, HTMLResponse

from .problems import NOT_FOUND, ProblemError

_MEDIA_TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}


def docs_routes(title: str) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def docs() -> HTMLResponse:
        page = get_swagger_ui_html(
            openapi_url="openapi.json",
            title=title,
            swagger_js_url="docs/swagger-ui-bundle.js",
            swagger_css_url="docs/swagger-ui.css",
            swagger_favicon_url="docs/favicon-32x32.png",
            swagger_ui_parameters={"validatorUrl": None, "displayRequestDuration": True},
        )
        # The page can ask models; nobody should be made to click on it unseen.
        page.headers["x-frame-options"] = "DENY"
        return page

    @router.get("/docs/{name}")
    async def asset(name: str) -> FileResponse:
        if name not in _MEDIA_TYPES:
            raise ProblemError(NOT_FOUND, "there is no such file")
        with as_file(files("fastapi_swagger.resources") / name) as path:
            return FileResponse(path, media_type=_MEDIA_TYPES[name], headers={"cache-control": "max-age=86400"})

    return router
