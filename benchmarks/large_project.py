"""`platform check` of a generated project as a whole process, and how its time grows with the project."""

import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.check_command import PROGRAM
from benchmarks.figures import Figure
from benchmarks.generated_project import AREAS, write_project

SIZES, ROUNDS = (1, 2, 4), 7
SECONDS, GROWTH = 2.0, 4.6
"""Targets: seconds at size 1; the time at size 4 in times of that at size 1, where 4 is linear."""


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="bf-") as folder:
        files = {size: write_project(Path(folder, str(size)), AREAS * size) for size in SIZES}
        taken: dict[int, list[float]] = {size: [] for size in SIZES}
        for _ in range(ROUNDS):
            for size, file in files.items():
                taken[size].append(_seconds(file.parent))
    middle = {size: median(taken[size]) for size in SIZES}
    shown = ", ".join(f"{size}x {middle[size]:.2f} s" for size in SIZES)
    growth = median(large / small for small, large in zip(taken[1], taken[4], strict=True))
    note = f"1,000 routes, 500 consumers, 1,500 handlers, 100 modules; best {min(taken[1]):.2f} s"
    return [
        Figure("platform check: a large project", round(middle[1], 2), "s", SECONDS, note=note),
        Figure("platform check: 4x as large / 1x", round(growth, 2), "x", GROWTH, note=shown),
    ]


def _seconds(folder: Path) -> float:
    started = time.perf_counter()
    subprocess.run([str(PROGRAM), "check"], cwd=folder, capture_output=True, check=True)
    return time.perf_counter() - started
