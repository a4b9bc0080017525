"""The peer: a Redis stream in batches of 500 with FastStream, its rows into DuckDB as a good engineer writes it."""

import json
import os

import duckdb
from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub
from pydantic import BaseModel

broker = RedisBroker(os.environ["REDIS"])
app = FastStream(broker)
rows = duckdb.connect(os.environ["ROWS"])
rows.execute("CREATE TABLE IF NOT EXISTS rows (id BIGINT, name VARCHAR)")
INSERT = """INSERT INTO rows SELECT r.id, r.name FROM
            (SELECT unnest(from_json(?, '[{"id":"BIGINT","name":"VARCHAR"}]')) AS r)"""


class Row(BaseModel):
    id: int
    name: str


@broker.subscriber(stream=StreamSub("peer", group="peer", consumer="one", batch=True, max_records=500))
async def work(jobs: list[Row]) -> None:
    rows.execute(INSERT, [json.dumps([job.model_dump() for job in jobs])])
