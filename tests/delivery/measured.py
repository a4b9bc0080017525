"""Lines for the end of a run of the suite: duplicates, times, sizes. Reports carry them (tests/conftest.py), also under
xdist."""

LINES: list[str] = []


def tell(line: str) -> None:
    LINES.append(line)
