PORT = 8000


class Model: ...


def index(model, port): ...
