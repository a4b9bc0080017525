def two(): ...

def index(:
    return 1
