"""The Celery app of the project in the current folder, for Celery's own tools and for Flower.

    celery -A buildflow.celery inspect active
    celery -A buildflow.celery flower

`BUILDFLOW_STACK` chooses the stack; without it, it is the file's `default_stack`.
"""

import atexit
import contextlib
import os
from pathlib import Path

from celery import Celery

from buildflow.cli.project import Choice, connected, correct
from buildflow.compiler import DEFAULT_FILE
from buildflow.runtime.celery_app import celery_app


def _open() -> Celery:
    connections = contextlib.ExitStack()
    atexit.register(connections.close)
    result = correct(Choice(Path(DEFAULT_FILE), os.environ.get("BUILDFLOW_STACK")))
    return celery_app(connections.enter_context(connected(result)))


app = _open()
