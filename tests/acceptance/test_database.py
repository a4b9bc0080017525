"""A database and a topic as sinks of one consumer: rows by SQL, messages by their attributes."""

import json
from pathlib import Path

from tests.harness import platform, project, running, wait_for

YAML = """
project: accounts
primitives:
  jobs: {type: queue}
  db: {type: database, table: jobs, columns: app:Job, upsert: [id]}
  plain: {type: database}
  news: {type: topic}
  german: {type: subscription, topic: news, filter: {country: de}}
consumers:
  save: {source: jobs, handler: app:save, sink: [{to: db, when: app:Job}, {to: news, when: "buildflow.types:Message"}]}
  hear: {source: german, handler: app:hear}
"""

APP = """
from dataclasses import dataclass
from pathlib import Path
from buildflow.types import Message

@dataclass
class Job:
    id: int
    name: str

def save(job: Job):
    country = "de" if job.id % 2 else "at"
    return [job, Message({"id": job.id}, attributes={"country": country})]

def hear(news: Message[dict]):
    with Path("heard").open("a") as heard:
        heard.write(f"{news.data['id']} {news.attributes['country']}\\n")
"""


def test_rows_by_sql_and_messages_by_their_attributes(tmp_path: Path) -> None:
    folder = project(tmp_path, YAML, app=APP)
    with running(folder) as app:
        app.ready()
        jobs = [json.dumps({"id": i, "name": f"name {i}"}) for i in range(4)] + ['{"id": 2, "name": "changed"}']
        assert platform(folder, "send", "jobs", *jobs).returncode == 0
        heard = folder / "heard"
        wait_for(lambda: heard.exists() and sorted(heard.read_text().splitlines()) == ["1 de", "3 de"])

        def found() -> list[dict[str, object]]:
            return list(json.loads(platform(folder, "query", "db", "--json").stdout))

        wait_for(lambda: len(found()) == 4 and {"id": 2, "name": "changed"} in found())
    after = platform(folder, "query", "db", "--sql", "SELECT max(id) AS most FROM jobs", "--json")
    assert json.loads(after.stdout) == [{"most": 3}], "it keeps its data, and query starts it"
    for statement in ("DELETE FROM jobs", "SELECT 1; COMMIT; DELETE FROM jobs"):
        refused = platform(folder, "query", "db", "--sql", statement)
        assert refused.returncode == 1
        assert "refuses" in refused.stderr
    assert len(json.loads(platform(folder, "query", "db", "--json").stdout)) == 4
    unsaid = platform(folder, "query", "plain")
    assert unsaid.returncode == 2
    assert "--sql" in unsaid.stderr
