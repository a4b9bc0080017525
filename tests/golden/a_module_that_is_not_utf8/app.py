GREETING = "grьяe"


def index(): ...
