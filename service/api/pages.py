"""The two pages for people, and the OpenAPI document. A page is one file, which loads nothing from anywhere else."""

from importlib import resources

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, JSONResponse

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline';"
    " img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}


def router() -> APIRouter:
    """Read the pages and return their routes."""
    folder = resources.files(__package__)
    segment_html = folder.joinpath("page.html").read_text("utf-8")
    docs_html = folder.joinpath("docs.html").read_text("utf-8")
    pages = APIRouter(include_in_schema=False)

    @pages.head("/")
    @pages.get("/")
    async def segment_page() -> HTMLResponse:
        return HTMLResponse(segment_html, headers=HEADERS)

    @pages.head("/docs")
    @pages.get("/docs")
    async def docs_page() -> HTMLResponse:
        return HTMLResponse(docs_html, headers=HEADERS)

    @pages.head("/openapi.json")
    @pages.get("/openapi.json")
    async def openapi_document(request: Request) -> JSONResponse:
        return JSONResponse(request.app.openapi())

    return pages
