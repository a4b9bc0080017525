"""Mistakes of different stages in one entry are told in one run, each once; none is told that only follows."""

import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from buildflow.cli.main import app
from buildflow.compiler import Compilation, compile_file
from buildflow.compiler.cure import cured

MODULE = """
from dataclasses import dataclass


@dataclass
class Order:
    id: int


class Late(Exception): ...


def work(order: Order) -> Order: ...
def two(order: Order, model): ...
def index(): ...
def make(path): ...
def one(b): ...
"""


def compiled(folder: Path, text: str) -> Compilation:
    (folder / "app.py").write_text(MODULE)
    (folder / "buildflow.yaml").write_text(f"project: shop\n{text}")
    return compile_file(folder / "buildflow.yaml", environment={})


def told(folder: Path, text: str) -> list[str]:
    """The codes of the mistakes, in file order, each with the word that it stands at."""
    result = compiled(folder, text)
    assert [d.span for d in result.diagnostics] == sorted(d.span for d in result.diagnostics)
    lines = result.document.lines
    found = []
    for d in result.diagnostics:
        end = d.span.end_column - 1 if d.span.end_line == d.span.line else None
        found.append(f"{d.code} {lines[d.span.line - 1][d.span.column - 1 : end]}")
    return found


ALL_AT_ONCE = {
    "a value, a reference and a handler": (
        """
primitives: {orders: {type: queue}}
consumers: {work: {source: ordrs, handler: app:wrk, timeout: 5x}}
""",
        ["BF210 ordrs", "BF303 app:wrk", "BF204 5x"],
    ),
    "events of a stream, its bucket, and the name that its provider refuses": (
        """
stacks: {local: {provider: local}}
primitives:
  images: {type: bucket}
  uploads: {type: file_change_stream, bucket: imags, events: [creatd]}
consumers: {work: {source: uploads, handler: app:work}}
""",
        ["BF210 imags", "BF204 creatd", "BF214 app:work"],
    ),
    "a key, a service and a handler of a route": (
        """
services: {api: {prefix: /api}}
routes:
  GET /: {handler: app:indx, servce: api, status: ok, auth: nobody}
""",
        ["BF303 app:indx", "BF201 servce", "BF203 ok", "BF210 nobody"],
    ),
    "a source that is missing, a handler and a sink": (
        """
primitives: {orders: {type: queue}}
consumers: {work: {handler: app:wrk, sink: ordrs}}
""",
        ["BF202 work", "BF303 app:wrk", "BF210 ordrs"],
    ),
    "a handler that is none, a source and an exception": (
        """
primitives: {orders: {type: queue}}
consumers: {work: {source: ordrs, handler: work, retry: {never: [app:Lat], jitter: 7}}}
""",
        ["BF210 ordrs", "BF301 work", "BF303 app:Lat", "BF204 7"],
    ),
    "a sink of several": (
        """
primitives: {orders: {type: queue}, paid: {type: queue}}
consumers:
  work:
    source: orders
    handler: app:work
    sink: [{to: paid, whn: {id: 1}}, {to: ordrs}]
""",
        ["BF201 whn", "BF210 ordrs"],
    ),
    "a route that is none, and its handler": (
        """
routes: {FETCH /orders: {handler: app:indx, sink: ordrs}}
""",
        ["BF206 FETCH /orders", "BF303 app:indx", "BF210 ordrs"],
    ),
    "a scope, a factory's argument and another dependency": (
        """
dependencies:
  model: {factory: app:make, scope: replca, with: {pth: x}}
""",
        ["BF204 replca", "BF323 pth"],
    ),
    "the project's own keys, and a mount": (
        """
options: {log_level: LOUD}
mounts: {/a: 5, /b: nowhere}
""",
        ["BF204 LOUD", "BF203 5", "BF204 nowhere"],
    ),
    "a session's database that is missing": (
        """
dependencies: {session: {type: sql_session, autoflush: maybe}}
""",
        ["BF202 session", "BF203 maybe"],
    ),
}


@pytest.mark.parametrize(("text", "expected"), ALL_AT_ONCE.values(), ids=ALL_AT_ONCE)
def test_all_mistakes_of_an_entry_at_once(tmp_path: Path, text: str, expected: list[str]) -> None:
    found = [line for line in told(tmp_path, text) if not line.startswith("BF225")]
    assert found == expected


NOTHING_FOLLOWS = {
    "a sink that is none": (
        """
primitives: {orders: {type: queue, message: app:Order}}
consumers: {work: {source: orders, handler: app:index, sink: 5}}
""",
        ["BF306 app:index", "BF203 5"],
    ),
    "columns of a row": (
        """
primitives: {orders: {type: queue}, sales: {type: table, columns: {id: 5, note: string}}}
consumers: {work: {source: orders, handler: app:work, sink: sales}}
""",
        ["BF203 5"],
    ),
    "columns that are missing": (
        """
primitives: {orders: {type: queue}, sales: {type: table, colums: app:Order}}
consumers: {work: {source: orders, handler: app:work, sink: sales}}
""",
        ["BF201 colums"],
    ),
    "columns of a database": (
        """
primitives: {orders: {type: queue}, sales: {type: database, table: sales, columns: 5}}
consumers: {work: {source: orders, handler: app:work, sink: sales}}
""",
        ["BF203 5"],
    ),
    "inject": (
        """
primitives: {orders: {type: queue}}
dependencies: {classifier: {factory: app:index}}
consumers: {work: {source: orders, handler: app:two, injct: {model: classifier}}}
""",
        ["BF201 injct"],
    ),
    "arguments of a factory": (
        """
dependencies: {model: {factory: app:make, wth: {path: x}}}
routes: {GET /: {handler: app:index, auth: model}}
""",
        ["BF201 wth", "BF320 model"],
    ),
    "a scope": (
        """
dependencies: {model: {factory: app:index, scope: reqest}}
routes: {GET /: {handler: app:index, auth: model}}
""",
        ["BF204 reqest"],
    ),
    "a prefix": (
        """
services: {api: {prefix: [/api]}}
routes: {GET /: app:index, GET /%69: app:index, "GET /docs": {handler: app:index, service: api}}
""",
        ["BF203 [/api]"],
    ),
    "a service that two routes of one path are told apart by": (
        """
services: {api: {prefix: /api}}
routes: {"GET /{b:path}": app:one, "GET /{b}": {handler: app:one, servic: api}}
""",
        ["BF201 servic"],
    ),
    "a provider": (
        """
stacks: {local: {provider: local}}
primitives: {orders: {type: queue, provider: awss}}
consumers: {work: {source: orders, handler: app:work}}
""",
        ["BF204 awss"],
    ),
    "a name": ("primitives: {a: {type: queue, name: [x]}, b: {type: queue}}", ["BF203 [x]"]),
    "a topic": (
        """
primitives: {late: {type: subscription, topic: [x]}}
consumers: {work: {source: late, handler: app:work}}
""",
        ["BF203 [x]"],
    ),
    "where the secrets are": (
        """
stacks: {local: {provider: local, secrets: {file: 5}, aws: {aws_secret_access_key: "${secret.KEY}"}}}
""",
        ["BF203 5"],
    ),
    "two that lack the same": (
        """
consumers: {a: {handler: app:work}, b: {handler: app:work}}
""",
        ["BF202 a", "BF202 b"],
    ),
}


@pytest.mark.parametrize(("text", "expected"), NOTHING_FOLLOWS.values(), ids=NOTHING_FOLLOWS)
def test_nothing_is_concluded_from_what_was_not_read(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert told(tmp_path, text) == expected


def test_one_run_of_fix_cures_a_key_a_reference_and_a_handler(tmp_path: Path) -> None:
    text = """project: shop
primitives: {orders: {type: queue}}
consumers: {work: {source: ordrs, handler: app:wrk, timout: 5s, retry: {jitter: 7}}}
"""
    result = compiled(tmp_path, text.removeprefix("project: shop\n"))

    def compile(text: str) -> Compilation:
        return compiled(tmp_path, text.removeprefix("project: shop\n"))

    after = cured(text, result, compile)
    right = "consumers: {work: {source: orders, handler: app:work, timeout: 5s, retry: {jitter: 7}}}"
    assert right in after.text
    assert [d.code for d in after.result.diagnostics] == ["BF204"]  # `jitter`, for the user to say


def test_an_entry_of_which_too_little_is_left_is_left_out(tmp_path: Path) -> None:
    """A schedule without its time is refused as a whole; what names it is no second mistake."""
    text = """
primitives: {nightly: {type: schedule, evry: 5m}}
consumers: {work: {source: nightly, handler: app:index}}
"""
    result = compiled(tmp_path, text)
    assert ("primitives", "nightly") in result.declaration.broken
    assert "BF210" not in [d.code for d in result.diagnostics]


AWS = """
default_stack: local
stacks: {local: {provider: local}, aws: {provider: aws}, test: {provider: aws}}
primitives:
  a: {type: schedule, every: 5m}
  b: {type: schedule, every: 5m}
"""


def test_what_a_provider_lacks_is_one_mistake_for_all_stacks_and_primitives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["buildflow.compiler.resolve"], "providers_of", lambda _: ["local"])
    compiled(tmp_path, AWS)
    result = compile_file(tmp_path / "buildflow.yaml", environment={}, all_stacks=True)
    (lacking,) = [d for d in result.diagnostics if d.code == "BF217"]
    assert lacking.span.line == 6
    assert [r.span.line for r in lacking.related] == [7]


@pytest.mark.parametrize("view", ["--resolved", "--canonical"])
def test_a_configuration_is_printed_though_its_provider_lacks_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view: str
) -> None:
    monkeypatch.setattr(sys.modules["buildflow.compiler.resolve"], "providers_of", lambda _: ["local"])
    compiled(tmp_path, AWS)
    monkeypatch.chdir(tmp_path)
    printed = CliRunner().invoke(app, ["config", "--stack", "aws", view])
    assert printed.exit_code == 0
    assert yaml.safe_load(printed.stdout)["primitives"].keys() == {"a", "b"}
    assert "BF217" in printed.stderr
    (tmp_path / "buildflow.yaml").write_text(f"project: shop{AWS}  c: {{type: schedule}}\n")
    refused = CliRunner().invoke(app, ["config", "--stack", "aws", view])
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "BF202" in refused.stderr
