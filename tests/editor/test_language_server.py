"""The published schema in an editor: the real yaml-language-server completes, explains and underlines by it.

The server is the one behind the YAML support of VS Code, Neovim, Helix and others. Nothing here is simulated but the
window: a text goes in over the language server protocol, what the user would see comes out.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from buildflow.primitives.registry import all_primitives
from buildflow.spec.project import BUILT_INS, SECTIONS, Options, Project, Retry, Route, Stack
from tests.editor import connection
from tests.editor.connection import NotInstalled, node
from tests.editor.language_server import CURSOR, LanguageServer, Squiggle

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "schemas/buildflow.schema.json"
PRIMITIVES = all_primitives()
EXAMPLES = [f"platform/buildflow/primitives/{type}/example.yaml" for type in PRIMITIVES]
TEMPLATES = [str(path.relative_to(ROOT)) for path in ROOT.glob("platform/buildflow/templates/**/buildflow.yaml")]
COMPILING = [path.parent.name for path in sorted(ROOT.glob("tests/golden/*/runtime_plan.json"))]

COMPLAINED_OF = {
    "an_account_id_with_a_leading_zero": "to editors, which follow YAML 1.2 here, 0123 is a number",
}
"""Cases that compile, and that an editor complains of."""

pytestmark = pytest.mark.xdist_group("language server")  # one server serves all


@pytest.fixture(scope="module")
def server() -> Iterator[LanguageServer]:
    with LanguageServer(ROOT, {SCHEMA.as_uri(): "*.yaml"}) as running:
        yield running


@pytest.fixture(scope="module")
def untold_server() -> Iterator[LanguageServer]:
    """One that is told of no schema: files have to name theirs."""
    with LanguageServer(ROOT, {}) as running:
        yield running


def keys(model: type[BaseModel], *, without: tuple[str, ...] = ()) -> set[str]:
    return {info.alias or name for name, info in model.model_fields.items()} - set(without)


# no complaint about what is right


def test_the_application_names_its_schema_itself(untold_server: LanguageServer) -> None:
    """By its first line."""
    text = (ROOT / "buildflow.yaml").read_text()
    assert untold_server.squiggles(text, "buildflow.yaml") == []
    assert [s.text for s in untold_server.squiggles(text + "\nprimitves: {}\n", "another.yaml")] == ["primitves"]


def test_the_comment_of_jetbrains_names_it_too(untold_server: LanguageServer) -> None:
    text = "# $schema: schemas/buildflow.schema.json\nproject: shop\nprimitves: {}\n"
    assert [s.text for s in untold_server.squiggles(text)] == ["primitves"]


def test_the_setting_of_the_docs_names_it_for_the_project() -> None:
    shown = re.findall(r"^```json\n(.*?)^```", (ROOT / "docs/editors.md").read_text(), re.MULTILINE | re.DOTALL)
    (schemas,) = [settings["yaml.schemas"] for block in shown if "yaml.schemas" in (settings := json.loads(block))]
    with LanguageServer(ROOT, schemas) as server:
        found = server.squiggles_of(dict.fromkeys(("buildflow.yaml", "other.yaml"), "project: shop\nprimitves: {}\n"))
    assert [[s.text for s in squiggles] for squiggles in found.values()] == [["primitves"], []]


@pytest.mark.parametrize("path", TEMPLATES)
def test_a_new_project_names_the_schema_beside_it(path: str, tmp_path: Path, untold_server: LanguageServer) -> None:
    (tmp_path / "buildflow.schema.json").write_text(SCHEMA.read_text())
    texts = {str(tmp_path / "buildflow.yaml"): "", str(tmp_path / "another.yaml"): "\nprimitves: {}\n"}
    found = untold_server.squiggles_of({name: (ROOT / path).read_text() + end for name, end in texts.items()})
    assert [[s.text for s in squiggles] for squiggles in found.values()] == [[], ["primitves"]]


@pytest.mark.parametrize("path", ["buildflow.yaml", *EXAMPLES])
def test_no_complaint_about_what_the_repository_shows(path: str, server: LanguageServer) -> None:
    assert server.squiggles((ROOT / path).read_text(), path) == []


def test_no_complaint_about_any_case_that_compiles(server: LanguageServer) -> None:
    """All golden cases with a plan: anchors, overlays, references and all."""
    texts = {case: (ROOT / f"tests/golden/{case}/buildflow.yaml").read_text() for case in COMPILING}
    found = server.squiggles_of({f"{case}.yaml": text for case, text in texts.items()})
    assert len(texts) > 100
    assert {name.removesuffix(".yaml") for name, squiggles in found.items() if squiggles} == set(COMPLAINED_OF)


def test_no_complaint_about_a_reference_where_something_else_is_read(server: LanguageServer) -> None:
    text = """
project: shop
primitives:
  jobs: {type: queue, lease: "${var.lease}"}
  images: {type: bucket, force_destroy: "${env.FORCE:-false}", format: "${var.format}"}
  other: {type: "${var.kind}", lease: 5s}
consumers:
  work: {source: jobs, handler: "${var.handler}", concurrency: "${env.N}", retry: {jitter: "${var.jitter}"}}
"""
    assert server.squiggles(text) == []


# completion


def test_the_sections_are_offered(server: LanguageServer) -> None:
    offered = server.completions(f"project: shop\n{CURSOR}")
    assert set(offered) == keys(Project, without=("project",)), "neither `app` nor `pulumi_config`: they are old names"
    assert all(item["insertText"].startswith(f"{label}:") for label, item in offered.items())


def test_the_types_are_offered_with_what_they_are(server: LanguageServer) -> None:
    offered = server.completions(f"project: shop\nprimitives:\n  a:\n    type: {CURSOR}\n")
    assert list(offered) == list(PRIMITIVES)
    for type, item in offered.items():
        assert " ".join((PRIMITIVES[type].spec.__doc__ or "").split()) in str(item["documentation"])


def skeleton(model: type[BaseModel], title: str) -> set[str]:
    """What completes all that a mapping requires at once: it bears the mapping's title."""
    return {title} if any(f.is_required() for name, f in model.model_fields.items() if name != "type") else set()


@pytest.mark.parametrize("type", PRIMITIVES)
def test_the_fields_of_a_type_are_offered_and_no_others(type: str, server: LanguageServer) -> None:
    spec = PRIMITIVES[type].spec
    offered = server.completions(f"project: shop\nprimitives:\n  a:\n    type: {type}\n    {CURSOR}\n")
    assert set(offered) == keys(spec, without=("type",)) | skeleton(spec, type)
    assert all(item["documentation"] for item in offered.values())


OVERLAY = "project: shop\nstacks:\n  a:\n    provider: aws\n    primitives:\n      b:\n        "


@pytest.mark.parametrize("type", PRIMITIVES)
def test_so_they_are_below_an_overlay(type: str, server: LanguageServer) -> None:
    offered = server.completions(f"{OVERLAY}type: {type}\n        {CURSOR}")
    assert set(offered) == keys(PRIMITIVES[type].spec, without=("type",))


def test_below_an_overlay_without_a_type_every_field_is_offered(server: LanguageServer) -> None:
    assert set(server.completions(f"{OVERLAY}{CURSOR}")) == set.union(*(keys(p.spec) for p in PRIMITIVES.values()))


@pytest.mark.parametrize("name", BUILT_INS)
def test_the_fields_of_a_built_in_dependency_are_offered(name: str, server: LanguageServer) -> None:
    offered = server.completions(f"project: shop\ndependencies:\n  a:\n    type: {name}\n    {CURSOR}\n")
    assert set(offered) == keys(BUILT_INS[name], without=("type",)) | skeleton(BUILT_INS[name], name)


def test_a_dependency_has_a_factory_or_a_type(server: LanguageServer) -> None:
    offered = server.completions(f"project: shop\ndependencies:\n  a:\n    {CURSOR}\n")
    assert set(offered) == {"factory", "scope", "with", "type", "dependency"}
    offered = server.completions(f"project: shop\ndependencies:\n  a:\n    type: {CURSOR}\n")
    assert list(offered) == list(BUILT_INS)


@pytest.mark.parametrize(
    ("place", "model"),
    [
        ("consumers:\n  a:\n    ", SECTIONS["consumers"]),
        ("consumers:\n  a:\n    retry:\n      ", Retry),
        ("services:\n  a:\n    ", SECTIONS["services"]),
        ("routes:\n  GET /:\n    ", Route),
        ("routes:\n  get /:\n    ", Route),
        ("options:\n  ", Options),
    ],
)
def test_the_fields_of_a_mapping_are_offered(place: str, model: type[BaseModel], server: LanguageServer) -> None:
    offered = server.completions(f"project: shop\n{place}{CURSOR}\n")
    assert set(offered) == keys(model) | skeleton(model, model.__name__.lower())


def test_a_stack_has_settings_and_overlays(server: LanguageServer) -> None:
    offered = server.completions(f"project: shop\nstacks:\n  a:\n    {CURSOR}\n")
    assert set(offered) >= keys(Stack) | {"primitives", "routes", "consumers", "variables", "mounts"}


@pytest.mark.parametrize(
    ("place", "values"),
    [
        ("primitives:\n  a:\n    type: bucket\n    force_destroy: ", ["false", "true"]),
        ("primitives:\n  a:\n    type: bucket\n    format: ", ["csv", "json", "jsonl", "parquet", "raw"]),
        ("primitives:\n  a:\n    type: file_change_stream\n    events:\n      - ", ["created", "deleted"]),
        ("primitives:\n  a:\n    type: queue\n    lease: ", ["30s"]),
        ("consumers:\n  a:\n    retry:\n      backoff: ", ["exponential", "fixed"]),
        ("stacks:\n  a:\n    provider: ", ["aws", "gcp", "local"]),
    ],
)
def test_values_are_offered(place: str, values: list[str], server: LanguageServer) -> None:
    assert sorted(server.completions(f"project: shop\n{place}{CURSOR}\n")) == values


def test_a_text_that_looks_like_a_number_is_written_as_text(server: LanguageServer) -> None:
    offered = server.completions(f"project: shop\nprimitives:\n  a:\n    type: database\n    version: {CURSOR}\n")
    assert '"17"' in {item["insertText"] for item in offered.values()}


@pytest.mark.parametrize(
    ("section", "labels"),
    [
        ("primitives", set(PRIMITIVES)),
        ("routes", {"route", "collector"}),
        ("consumers", {"consumer"}),
        ("dependencies", {"factory", *BUILT_INS}),
        ("stacks", {"local stack", "aws stack", "gcp stack"}),
    ],
)
def test_whole_entries_are_offered(section: str, labels: set[str], server: LanguageServer) -> None:
    offered = server.completions(f"project: shop\n{section}:\n  {CURSOR}\n")
    assert set(offered) == labels
    for item in offered.values():
        entry = re.sub(r"\$\{\d+:([^}]*)\}", r"\1", item["insertText"]).replace("\n", "\n  ")
        assert server.squiggles(f"project: shop\n{section}:\n  {entry}\n") == [], "what it writes is right"


# hover


def test_every_section_says_what_it_is(server: LanguageServer) -> None:
    sections = {name: info.description for name, info in Project.model_fields.items() if name in SECTIONS}
    sections |= {"primitives": Project.model_fields["primitives"].description}
    shown = server.hovers("project: shop\n" + "".join(f"{name}{CURSOR}: {{}}\n" for name in sections))
    assert [text.split("\n\n")[1] for text in shown] == list(sections.values())


@pytest.mark.parametrize("type", PRIMITIVES)
def test_every_field_of_a_type_says_what_it_is(type: str, server: LanguageServer) -> None:
    fields = {name: f.description for name, f in PRIMITIVES[type].spec.model_fields.items() if name != "type"}
    lines = "".join(f"    {name}{CURSOR}: x\n" for name in fields)
    shown = server.hovers(f"project: shop\nprimitives:\n  a:\n    type: {type}\n{lines}")
    for text, description in zip(shown, fields.values(), strict=True):
        assert str(description) in text


@pytest.mark.parametrize("section", [name for name in SECTIONS if name != "dependencies"])
def test_every_field_of_a_section_says_what_it_is(section: str, server: LanguageServer) -> None:
    fields = {info.alias or name: info.description for name, info in SECTIONS[section].model_fields.items()}
    name = "GET /" if section == "routes" else "a"
    lines = "".join(f"    {key}{CURSOR}: x\n" for key in fields)
    shown = server.hovers(f"project: shop\n{section}:\n  {name}:\n{lines}")
    assert [d for text, d in zip(shown, fields.values(), strict=True) if str(d) not in text] == []


def test_a_default_and_the_values_are_shown(server: LanguageServer) -> None:
    text = "project: shop\nconsumers:\n  a:\n    source: b\n    handler: c:d\n    retry: {max: 5m, backoff: fixed}\n"
    longest, backoff = server.hovers(text.replace("max", f"max{CURSOR}").replace("backoff", f"backoff{CURSOR}"))
    assert "Default: `5m`" in longest
    assert "* `fixed`" in backoff
    assert "* `exponential`" in backoff


# squiggles

MISTAKES = """\
project: shop
primitives:
  a: {type: qeue}                                    #! qeue: "bucket", "database", "file"
  b: {type: queue, leese: 4s}                        #! leese: leese is not allowed
  c: {type: queue, lease: soon}                      #! soon: Write 500ms, 30s, 5m, 1h30m or 2d.
  d: {type: queue, lease: 0}                         #! 0: below the minimum of 1
  e: {type: queue, lease: true}                      #! true: Expected one of number, string
  f: {type: bucket, force_destroy: maybe}            #! maybe: Write true or false.
  g: {}                                              #! g: Missing property "type"
  h: 5                                               #! 5: Expected "primitive"
  my-bucket: {type: bucket}                          #! my-bucket: Letters, digits and _, no digit first.
  j: {type: database, version: 17}                   #! 17: Expected "string"
  k: {type: database, password: hunter2}             #! hunter2: a secret never stands in the file
  l: {type: table, columns: app}                     #! app: Write `package.module:Class`.
  m: {type: table}                                   #! m: Missing property "columns"
  n: {type: queue, gcp: {exactly: true}}             #! exactly: exactly is not allowed
  o: {type: queue, force_destroy: true}              #! force_destroy: force_destroy is not allowed
  p: {type: file_change_stream, bucket: f, events: [created, delted]}  #! delted: "created", "deleted"
routes:
  GET /: app.index                                   #! app.index: Write `package.module:name`.
  GET /a: {handler: app:a, statsu: 201}              #! statsu: statsu is not allowed
  GET /b: {summary: B}                               #! GET /b: Missing property "handler"
  GET /c: 5                                          #! 5: Expected one of string, object
  /orders: app:orders                                #! /orders: Write METHOD /path
  "GET /{id": app:order                              #! "GET /{id": Write METHOD /path
consumers:
  a: {handler: app:a}                                #! a: Missing property "source"
  b: {source: b, handler: app:b, replicas: many}     #! many: Write a whole number.
  c: {source: b, handler: app:b, replicas: {min: 1}}  #! replicas: Missing property "max"
  d: {source: b, handler: app:b, sink: [{too: a, to: b}]}  #! too: too is not allowed
  e: {source: b, handler: app:b, retry: {attempts: "3"}}   #! "3": Write a whole number.
  f: {source: b, handler: app:b, rate_limit: 5 per s}      #! 5 per s: Write 100/s, 30/m or 10/h.
dependencies:
  a: {type: headr, name: X}                          #! headr: "bearer_token", "google_user", "header"
  b: {factory: app:b, scope: session}                #! session: "global", "replica", "request"
  c: {scope: replica}                                #! c: Missing property "factory"
stacks:
  local: {provider: azure}                           #! azure: "local", "aws", "gcp"
  aws:
    provider: aws
    aws: {zone: a}                                   #! zone: zone is not allowed
    primitives:
      c: {nmae: jobs, lease: 5s}                     #! nmae: nmae is not allowed
      d: {type: queue, columns: {a: null}}           #! columns: columns is not allowed
      e: null
    consumers: {a: {sink: null, retry: {attempts: x}}}  #! x: Write a whole number.
    queues: {}                                       #! queues: queues is not allowed
mounts: {static: static}                             #! static: Begin with /.
primitves: {}                                        #! primitves: primitves is not allowed
"""
"""Behind `#!`: what is underlined, and words that are said. One squiggle a mistake, none anywhere else."""


def test_a_mistake_is_underlined_where_it_is_and_nowhere_else(server: LanguageServer) -> None:
    expected = [
        (number, *mark[1].split(": ", 1))
        for number, line in enumerate(MISTAKES.splitlines(), 1)
        if (mark := re.search(r"#! (.*)", line))
    ]
    found = server.squiggles(MISTAKES)
    assert [(s.line, s.text) for s in found] == [(line, text) for line, text, _ in expected]
    assert [(s, words) for s, (_, _, words) in zip(found, expected, strict=True) if words not in s.message] == []


def test_a_name_is_required_once(server: LanguageServer) -> None:
    (neither,) = server.squiggles("primitives: {}\n")
    (both,) = server.squiggles("app: shop\nproject: shop\n")
    assert 'Missing property "project"' in neither.message
    assert both == Squiggle(1, "app", "Property app is not allowed.")


# the ground it stands on


def test_every_pattern_is_one_to_javascript(tmp_path: Path) -> None:
    """Python's and JavaScript's regular expressions differ; the editors' are JavaScript's."""
    patterns = sorted(set(re.findall(r'"(?:pattern)": (".*?[^\\]")', SCHEMA.read_text())))
    assert len(patterns) > 5
    script = f"for (const p of [{','.join(patterns)}]) new RegExp(p, 'u')"
    subprocess.run([node(), "-e", script], check=True, capture_output=True, text=True)
    handler = next(json.loads(p) for p in patterns if "u0080" in p and ":" in p)
    script = f"process.exit(new RegExp({json.dumps(handler)}, 'u').test('app.größen:größe') ? 0 : 1)"
    assert subprocess.run([node(), "-e", script], check=False).returncode == 0


def test_without_the_server_the_words_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(connection, "HOME", tmp_path)
    with pytest.raises(NotInstalled, match="`make test` installs it"):
        LanguageServer(tmp_path, {})
