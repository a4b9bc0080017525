"""What is needed before what needs it: the one sort of the compiler, stable in the file's order."""

from collections.abc import Iterable, Mapping


def in_order(needs: Mapping[str, Iterable[str]]) -> tuple[list[str], list[list[str]]]:
    """The keys of `needs`, each behind the keys that it needs, and the circles found on the way, each as a path that
    begins and ends with one key. Names that are no keys are passed over."""
    done: dict[str, None] = {}
    path: list[str] = []
    circles: list[list[str]] = []

    def visit(key: str) -> None:
        if key in done or key not in needs:
            return
        if key in path:
            circles.append([*path[path.index(key) :], key])
            return
        path.append(key)
        for needed in needs[key]:
            visit(needed)
        path.pop()
        done[key] = None

    for key in needs:
        visit(key)
    return list(done), circles
