def order(id: int): ...


class Base:
    @staticmethod
    def inherited(id: int): ...


class Orders(Base):
    assigned = staticmethod(order)
    plain = order

    def without_self(id: int): ...

    @classmethod
    async def of_class(cls, id: int): ...

    @staticmethod
    def two(id: int, page: int = 1): ...

    class Lines:
        @staticmethod
        def nested(id: int): ...

    def process(self, element: dict): ...


class Meta(type):
    def made(cls, id: int): ...


class Made(metaclass=Meta): ...


orders = Orders()
process = orders.process
handlers = [orders.process]
first = handlers[0]
