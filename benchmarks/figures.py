"""What a measure gives, and the machine that it was taken on."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Figure:
    """One measured number. `note` says what stands behind it."""

    name: str
    value: float
    unit: str
    target: float | None = None
    better: Literal["less", "more"] = "less"
    note: str = ""

    @property
    def ok(self) -> bool | None:
        if self.target is None:
            return None
        return self.value <= self.target if self.better == "less" else self.value >= self.target

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "ok": self.ok}


@dataclass(frozen=True)
class Failure:
    """A measure that could not be taken, and why."""

    name: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "ok": None}


def machine() -> dict[str, Any]:
    """What the figures depend on. The load is that of the last minute, before anything was measured."""
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
