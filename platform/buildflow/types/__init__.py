"""What a handler may name in its signature. It need import none of it: arguments are found by name."""

from buildflow.types.events import DeadLetter, FileChangeEvent, Message
from buildflow.types.handles import Bucket, ObjectInfo, Queue, Table

__all__ = ["Bucket", "DeadLetter", "FileChangeEvent", "Message", "ObjectInfo", "Queue", "Table"]
