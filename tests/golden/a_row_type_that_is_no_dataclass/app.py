class Sale:
    id: int


def work(job: dict): ...
