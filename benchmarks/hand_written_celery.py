"""The peer: an empty task a message, as one writes it with Celery."""

import os

from celery import Celery

app = Celery("peer", broker=os.environ["BROKER"])
app.conf.task_ignore_result = True


@app.task
def work(_number: int) -> None:
    return None
