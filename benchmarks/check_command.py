"""`platform check` of the root app: the whole process, as a person or an editor waits for it."""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure

ROOT = Path(__file__).parent.parent
PROGRAM = Path(sys.executable).with_name("platform")
RUNS = 21


def measure() -> list[Figure]:
    seconds, bare = [], []
    for _ in range(RUNS):
        seconds.append(_seconds([str(PROGRAM), "check"]))
        bare.append(_seconds([sys.executable, "-c", "import pydantic.main, typer, yaml"]))
    note = f"best {min(seconds):.2f} s; {median(bare):.2f} s to import pydantic, typer and yaml alone"
    return [Figure("platform check", round(median(seconds), 3), "s", 0.4, note=note)]


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return time.perf_counter() - started
