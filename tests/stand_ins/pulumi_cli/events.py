"""Engine events, as the real engine's JSON: over gRPC where `--event-log` is a tcp:// address, else lines of a file."""

import json
import queue
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pulumi_cli.checkpoint import Resource
from pulumi_cli.protos import OPTIONS, proto
from pulumi_cli.values import blinded

RESET = "<{%reset%}>"
COLOURS = {"error": "<{%fg 1%}>", "warning": "<{%fg 3%}>", "info": "<{%fg 5%}>"}


class Events:
    """Every event goes to all listeners, in order and numbered."""

    def __init__(self, listeners: Iterable[Any]) -> None:
        self._listeners = list(listeners)
        self._sequence = 0
        self._lock = threading.Lock()

    def send(self, kind: str, content: dict[str, Any]) -> None:
        with self._lock:
            event = {"sequence": self._sequence, "timestamp": int(time.time()), kind: content}
            self._sequence += 1
            for listener in self._listeners:
                listener.send(event)

    def diagnostic(self, severity: str, message: str, urn: str = "", ephemeral: bool = False) -> None:
        """The message carries the engine's colour tags, as the real one's does."""
        content: dict[str, Any] = {
            "urn": urn,
            "prefix": f"{COLOURS.get(severity, '')}{severity}: {RESET}",
            "message": f"{RESET}{message}{RESET}\n",
            "color": "raw",
            "severity": severity,
        }
        content |= {"ephemeral": True} if ephemeral else {}
        self.send("diagnosticEvent", {key: value for key, value in content.items() if value != ""})

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()


def state(resource: Resource | None) -> dict[str, Any] | None:
    """A resource as an event shows it."""
    if resource is None:
        return None
    given = {
        "delete": resource.delete,
        "protect": resource.protect,
        "retainOnDelete": resource.retain_on_delete,
    }
    return {
        "type": resource.type,
        "urn": resource.urn,
        "custom": resource.custom,
        "id": resource.id,
        "parent": resource.parent,
        "inputs": blinded(resource.inputs),
        "outputs": blinded(resource.outputs),
        "provider": resource.provider,
        **{key: value for key, value in given.items() if value},
    }


class EventFile:
    """Lines of JSON."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115, closed by `close`

    def send(self, event: dict[str, Any]) -> None:
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class EventStream:
    """The Automation API's own server, when it is newer than 3.205."""

    def __init__(self, address: str) -> None:
        import grpc

        self._events: queue.Queue[Any] = queue.Queue()
        self._channel = grpc.insecure_channel(address.removeprefix("tcp://"), options=OPTIONS)
        stub = proto("events_pb2_grpc").EventsStub(self._channel)
        self._answer = stub.StreamEvents.future(iter(self._events.get, None))

    def send(self, event: dict[str, Any]) -> None:
        self._events.put(proto("events_pb2").EventRequest(event=json.dumps(event)))

    def close(self) -> None:
        """Wait until the other side has read everything, or is gone."""
        import grpc

        self._events.put(None)
        try:
            self._answer.result()
        except grpc.RpcError:
            return
        finally:
            self._channel.close()


def event_log(address: str) -> EventFile | EventStream:
    return EventStream(address) if address.startswith("tcp://") else EventFile(address)
