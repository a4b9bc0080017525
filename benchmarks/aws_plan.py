"""What `platform plan` adds to the engine's own time, for a stack of 200 primitives on AWS.

The engine's time is that of a process that does nothing but preview the same program through the Automation API. The
CLI is the stand-in of the tests, unless the real one is first on PATH.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure
from tests.harness import environment, platform, project
from tests.stand_ins import moto, pulumi_environment

PRIMITIVES = 200
ROUNDS = 5
YAML = """
project: bench
default_stack: aws
stacks: {aws: {provider: aws, aws: {region: eu-central-1}}}
primitives:
"""
BARE = """
import sys, time
from pathlib import Path
from buildflow.cli.infrastructure import infrastructure
from buildflow.cli.project import Choice, connected, correct
result = correct(Choice(Path("buildflow.yaml"), None))
with connected(result) as connections:
    stack = infrastructure(result, connections)
    before = time.perf_counter()
    steps = stack._engine.preview()
    print(time.perf_counter() - before)
"""
"""The engine with its SDK's import and its CLI's start, without the compiler and what is made of the steps."""


def measure() -> list[Figure]:
    queues = "".join(f"  q{n}: {{type: queue}}\n" for n in range(PRIMITIVES))
    with moto() as endpoint, tempfile.TemporaryDirectory(prefix="bf-") as name:
        folder = project(Path(name), YAML + queues)
        variables = pulumi_environment(folder / "pulumi", endpoint)
        whole, engine = [], []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            planned = platform(folder, "plan", timeout=120, **variables)
            whole.append(time.perf_counter() - began)
            if planned.returncode:
                raise RuntimeError(planned.stderr)
            engine.append(_bare(folder, variables))
    added = median(whole) - median(engine)
    note = f"{median(whole):.2f} s of which the engine takes {median(engine):.2f} s"
    return [Figure(f"`plan` of {PRIMITIVES} primitives on AWS, beside the engine", round(added, 2), "s", 1, note=note)]


def _bare(folder: Path, variables: dict[str, str]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", BARE], cwd=folder, env=environment(**variables), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return float(done.stdout)
