from buildflow.responses import HTMLResponse, RedirectResponse


class Clock:
    def __init__(self, hour: int) -> None:
        self.hour = hour


def index(name: str = "") -> HTMLResponse | RedirectResponse: ...
def clock() -> Clock: ...
