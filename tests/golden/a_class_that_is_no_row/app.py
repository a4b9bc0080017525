class Sale:
    def __init__(self, id: int):
        self.id = id


def work(job: dict) -> Sale: ...
