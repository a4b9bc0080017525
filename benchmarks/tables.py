"""The figures of `duckdb_contention.py`, which runs alone: it starts processes of its own."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.figures import Figure

SCRIPT = Path(__file__).with_name("duckdb_contention.py")


def measure() -> list[Figure]:
    ended = subprocess.run([sys.executable, str(SCRIPT), "--json"], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stderr.strip().splitlines()[-1])
    return [
        Figure(f["name"], f["value"], f["unit"], f["target"], "more" if f["unit"] == "ratio" else "less")
        for f in json.loads(ended.stdout)
    ]
