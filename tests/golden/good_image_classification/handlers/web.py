from pathlib import Path

from buildflow.requests import UploadFile
from buildflow.responses import FileResponse, HTMLResponse
from buildflow.types import Bucket, Table


def index() -> FileResponse:
    return FileResponse(Path(__file__).with_name("index.html"))


async def image_upload(image_file: UploadFile, images: Bucket) -> dict[str, str]: ...


def image_upload_results(classifications: Table) -> HTMLResponse: ...
