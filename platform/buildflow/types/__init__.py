"""What a handler may name in its signature. It need import none of it: arguments are found by name."""

from buildflow.types.events import DeadLetter, FileChangeEvent, Message, Tick
from buildflow.types.handles import Bucket, Database, ObjectInfo, Queue, Table, Topic

__all__ = [
    "Bucket",
    "Database",
    "DeadLetter",
    "FileChangeEvent",
    "Message",
    "ObjectInfo",
    "Queue",
    "Table",
    "Tick",
    "Topic",
]
