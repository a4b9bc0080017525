"""The routes. `images` is the bucket of that name, `classifications` the table."""

import re
from pathlib import Path
from typing import Any
from uuid import uuid4

from buildflow.requests import UploadFile
from buildflow.responses import FileResponse
from buildflow.types import Bucket, Table


def index() -> FileResponse:
    """The page to upload pictures on."""
    return FileResponse(Path(__file__).with_name("index.html"), media_type="text/html")


def image_upload(image_file: UploadFile, images: Bucket) -> dict[str, Any]:
    """Store a picture. That it is there is the event that the consumer waits for."""
    name = re.sub(r"[^\w.-]+", "_", image_file.filename or "image")
    stored = images.write(f"{uuid4().hex[:8]}-{name[-80:]}", image_file.file)
    return {"image": stored.path, "size": stored.size}


def image_upload_results(classifications: Table, limit: int = 100) -> list[dict[str, Any]]:
    """What the model saw, the newest first."""
    return classifications.rows(order_by="classified_at DESC", limit=limit)
