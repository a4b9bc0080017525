from buildflow.responses import JSONResponse


def collect(id: int) -> JSONResponse: ...
