"""The routes: plain functions. `images`, `classifications` and `failures` are primitives, by their names."""

from pathlib import Path
from typing import Annotated, Any

from buildflow.exceptions import HTTPException, InvalidObjectName, ObjectNotFound
from buildflow.requests import Header, UploadFile
from buildflow.responses import FileResponse, HTMLResponse, JSONResponse, Response
from buildflow.types import Bucket, Table
from handlers_example import listing, results_page
from handlers_example.content import image_type
from handlers_example.names import display_name, object_path

STATIC = Path(__file__).parent / "static"
PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    # nothing from elsewhere, and nothing evaluated
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'",
}
IMAGE_HEADERS = {
    "Cache-Control": "private, max-age=3600",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}
OTHER_HEADERS = {**IMAGE_HEADERS, "Content-Disposition": "attachment"}


def index() -> FileResponse:
    """The page to upload pictures on."""
    return FileResponse(STATIC / "index.html", media_type="text/html", headers=PAGE_HEADERS)


def image_upload(image_file: UploadFile, images: Bucket) -> dict[str, Any]:
    """Store an uploaded picture. Whether it can be read is for the consumer to find out."""
    if not image_file.size:
        raise HTTPException(400, f"{image_file.filename} is empty: it has 0 bytes.")
    stored = images.write(object_path(image_file.filename), image_file.file)
    return {"image_path": stored.path, "image_name": display_name(stored.path), "size": stored.size}


def image_upload_results(classifications: Table, failures: Table) -> HTMLResponse:
    """What the model saw, as a page that needs no JavaScript."""
    found = listing.collect(classifications, failures)
    return HTMLResponse(results_page.render(found), headers=PAGE_HEADERS)


def results(classifications: Table, failures: Table, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """The same for the page to poll: 304 while nothing is new."""
    found = listing.collect(classifications, failures)
    headers = {"ETag": listing.tag(found), "Cache-Control": "no-cache"}
    if if_none_match == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return JSONResponse(found, headers=headers)


def image(path: str, images: Bucket) -> Response:
    """A stored picture. Whatever is no picture is only offered to be saved, never shown or run."""
    try:
        data = images.read(path)
    except (ObjectNotFound, InvalidObjectName) as exc:
        raise HTTPException(404, f"There is no picture {path}.") from exc
    kind = image_type(data)
    if kind is None:
        return Response(data, media_type="application/octet-stream", headers=OTHER_HEADERS)
    return Response(data, media_type=kind, headers=IMAGE_HEADERS)
