"""The watcher: what no request and no sender tells a local stack, such as files that others put into a bucket.

One leads at a time, by a lock in the stack's Redis; others wait to take over.

    python -m buildflow.runtime.watcher PLAN [--notify FD]
"""

import argparse
import logging
import signal
import threading
from pathlib import Path
from typing import Any

from buildflow.ir.runtime import RuntimePlan
from buildflow.primitives.registry import driver
from buildflow.runtime.connections import Connections
from buildflow.runtime.leadership import LAPSE, Leadership
from buildflow.runtime.process import Heartbeat, Notify, in_words, read_plan, set_up_logging

log = logging.getLogger("buildflow.watcher")


class Watcher:
    def __init__(self, plan: RuntimePlan, connections: Connections, notify: Notify) -> None:
        self.plan = plan
        self.connections = connections
        self.notify = notify
        self.leadership = Leadership(connections, "watcher")
        self.leading = False
        self.error = ""

    def run(self, stop: threading.Event) -> None:
        """Lead when nobody else does, until `stop`."""
        self.notify("ready")
        while not stop.is_set():
            try:
                if self.leadership.take():
                    self._lead(stop)
                self.error = ""
            except Exception as exc:
                self.error = in_words(exc)
                log.warning("the watcher cannot reach its stack: %s", self.error)
            stop.wait(LAPSE / 3)

    def _lead(self, stop: threading.Event) -> None:
        lost = threading.Event()
        threads = [
            threading.Thread(target=self._watch, args=(key, lost), name=f"watch-{key}", daemon=True)
            for key in self.plan.watched
        ]
        self.leading = True
        for thread in threads:
            thread.start()
        try:
            while not stop.wait(LAPSE / 3) and self.leadership.keep():
                continue
        finally:
            self.leading = False
            lost.set()
            for thread in threads:
                thread.join(timeout=3)
            if stop.is_set():
                self.leadership.give_up()

    def _watch(self, key: str, stop: threading.Event) -> None:
        resource = self.plan.resource(key)
        session = self.connections.session(resource.provider)
        while not stop.is_set():
            try:
                driver(resource.type, resource.provider).watch(resource, session, stop)
            except Exception:
                log.exception("watching %s failed; trying again", key)
                stop.wait(1)

    def describe(self) -> dict[str, Any]:
        state = "failed" if self.error else "ready"
        return {"state": state, "leading": self.leading, "error": self.error}


def main() -> None:
    parser = argparse.ArgumentParser(prog="buildflow.runtime.watcher")
    parser.add_argument("plan", type=Path)
    parser.add_argument("--notify", type=int, default=None)
    arguments = parser.parse_args()
    plan = read_plan(arguments.plan)
    set_up_logging("watcher", plan.options.log_level)
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    connections = Connections(plan, Path.cwd())
    watcher = Watcher(plan, connections, Notify(arguments.notify))
    heartbeat = Heartbeat("watcher", connections, watcher.describe).start()
    try:
        watcher.run(stop)
    finally:
        heartbeat.stop()
        connections.close()


if __name__ == "__main__":
    main()
