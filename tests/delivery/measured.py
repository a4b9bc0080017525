"""Lines for the end of a run of the suite: duplicates, times, sizes. They go by way of this process's memory, so
under xdist only what the tests assert is told."""

LINES: list[str] = []


def tell(line: str) -> None:
    LINES.append(line)
