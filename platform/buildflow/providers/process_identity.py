"""A name for this process from which others on the same machine can tell whether it still lives.

`<boot>:<pid namespace>/<pid>/<start time>/<random>`. A pid means nothing in another container, after a reboot
or once it was given away again, which the other parts tell; of another machine's processes nothing is said.
"""

import os
import sys
from functools import cache
from pathlib import Path


def own() -> str:
    """A new name for this process."""
    pid = os.getpid()
    return f"{_machine()}/{pid}/{_start_time(pid)}/{os.urandom(4).hex()}"


def is_dead(name: str) -> bool:
    """Whether the process of that name certainly ran here and has ended."""
    machine, *rest = name.rsplit("/", 3)
    if len(rest) != 3 or machine != _machine() or not rest[0].isdigit():
        return False
    return _start_time(int(rest[0])) != rest[1]


if sys.platform == "linux":

    @cache
    def _machine() -> str:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"

    def _start_time(pid: int) -> str:
        """When the process of that pid started, "" when there is none or only its zombie is left."""
        try:
            after_name = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return "" if after_name[0] in (b"Z", b"X") else after_name[19].decode()

else:

    @cache
    def _machine() -> str:
        import subprocess

        command = ["sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def _start_time(pid: int) -> str:
        import psutil

        try:
            process = psutil.Process(pid)
            return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
        except psutil.NoSuchProcess:
            return ""
