def index() -> str: ...


class Service:
    def __init__(self, handler) -> None:
        self.index = handler


class Other:
    def __init__(self, **handlers) -> None:
        for name, handler in handlers.items():
            setattr(self, name, handler)


service = Service(index)
other = Other(more=index)
