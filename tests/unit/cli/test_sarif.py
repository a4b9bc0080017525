"""`platform check --format sarif`: a log that other tools read, with places and cures to the character."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from buildflow.cli.sarif import sarif
from buildflow.compiler import compile_file
from buildflow.compiler.fix import edits, replaced
from buildflow.diagnostics import CODES
from buildflow.explanations import explanation, files
from tests.harness import platform


def strict(required: str, **properties: Any) -> dict[str, Any]:
    """An object of exactly these properties, of which some are `required`."""
    return {
        "type": "object", "additionalProperties": False, "properties": properties, "required": required.split(),
    }  # fmt: skip


TEXT = {"type": "string", "minLength": 1}
MESSAGE = strict("text", text=TEXT)
NUMBER = {"type": "integer", "minimum": 1}
REGION = strict(
    "startLine startColumn endLine endColumn", startLine=NUMBER, startColumn=NUMBER, endLine=NUMBER, endColumn=NUMBER
)
ARTIFACT = strict(
    "uri", uri={"type": "string", "pattern": r"^[A-Za-z0-9._~!$&'()*+,;=:@/%-]+$"}, uriBaseId={"const": "%SRCROOT%"}
)
PLACE = strict("artifactLocation region", artifactLocation=ARTIFACT, region=REGION)
REPLACEMENT = strict("deletedRegion insertedContent", deletedRegion=REGION, insertedContent=MESSAGE)
CHANGE = strict(
    "artifactLocation replacements", artifactLocation=ARTIFACT, replacements={"type": "array", "items": REPLACEMENT}
)
LEVEL = {"enum": ["error", "warning"]}
RESULT = strict(
    "ruleId ruleIndex level message locations",
    ruleId={"enum": list(CODES)},
    ruleIndex={"type": "integer", "minimum": 0},
    level=LEVEL,
    message=MESSAGE,
    locations={
        "type": "array",
        "minItems": 1,
        "maxItems": 1,
        "items": strict("physicalLocation", physicalLocation=PLACE),
    },
    relatedLocations={
        "type": "array",
        "items": strict("id message physicalLocation", id={"type": "integer"}, message=MESSAGE, physicalLocation=PLACE),
    },
    fixes={
        "type": "array",
        "items": strict(
            "description artifactChanges",
            description=MESSAGE,
            artifactChanges={"type": "array", "minItems": 1, "items": CHANGE},
        ),
    },
)
RULE = strict(
    "id shortDescription fullDescription help defaultConfiguration",
    id={"enum": list(CODES)},
    name={"type": "string", "pattern": "^([A-Z][a-z0-9]*)+$"},
    shortDescription=MESSAGE,
    fullDescription={**MESSAGE, "properties": {"text": {**TEXT, "maxLength": 1024}}},
    help=strict("text markdown", text=TEXT, markdown=TEXT),
    defaultConfiguration=strict("level", level=LEVEL),
)
RUN = strict(
    "tool columnKind originalUriBaseIds results",
    tool=strict(
        "driver", driver=strict("name version rules", name=TEXT, version=TEXT, rules={"type": "array", "items": RULE})
    ),
    columnKind={"const": "unicodeCodePoints"},
    originalUriBaseIds=strict("%SRCROOT%", **{"%SRCROOT%": strict("description", description=MESSAGE)}),
    results={"type": "array", "items": RESULT},
)
LOG = strict(
    "$schema version runs",
    **{"$schema": {"type": "string", "format": "uri"}},
    version={"const": "2.1.0"},
    runs={"type": "array", "minItems": 1, "maxItems": 1, "items": RUN},
)
"""The part of SARIF's schema that is used here, narrower than the schema itself.

Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"""

YAML = """\
project: shop
primitives:
  注文: {type: buckt}
  images: {type: bucket, name: a}
  photos: {type: bucket, name: a}
  orders: {type: queue}
consumers:
  "größe 👩‍💻": {source: oders, handler: app:save}
  save: {source: orders, handler: app:none}
"""


def log(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch, file: str = "buildflow.yaml") -> dict[str, Any]:
    (folder / "buildflow.yaml").write_text(text)
    (folder / "app.py").write_text("def save(order): ...\ndef none(images): ...\n")
    monkeypatch.chdir(folder)
    made = json.loads(json.dumps(sarif(compile_file(Path(file), environment={}))))
    Draft202012Validator(LOG).validate(made)
    return made


def results(made: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = made["runs"][0]["results"]
    return found


def test_every_mistake_is_a_result_at_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = results(log(tmp_path, YAML, monkeypatch))
    assert [r["ruleId"] for r in found] == ["BF207", "BF205", "BF221", "BF207", "BF210", "BF306"]
    assert found[1]["level"] == "error"
    assert found[1]["message"] == {"text": 'there is no primitive type "buckt"\ndid you mean "bucket"?'}
    place = found[1]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "buildflow.yaml", "uriBaseId": "%SRCROOT%"}
    assert place["region"] == {"startLine": 3, "startColumn": 14, "endLine": 3, "endColumn": 19}


def test_columns_are_counted_in_code_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = results(log(tmp_path, YAML, monkeypatch))
    region = found[4]["locations"][0]["physicalLocation"]["region"]
    line = YAML.splitlines()[region["startLine"] - 1]
    assert line[region["startColumn"] - 1 : region["endColumn"] - 1] == "oders"


def test_other_places_are_related_locations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = results(log(tmp_path, YAML, monkeypatch))
    (twin,) = found[2]["relatedLocations"]
    assert twin["physicalLocation"]["region"]["startLine"] == 4
    (code,) = found[5]["relatedLocations"]
    assert code["physicalLocation"]["artifactLocation"]["uri"] == "app.py"
    assert code["physicalLocation"]["region"]["startLine"] == 2


def test_a_cure_replaces_exactly_what_check_fix_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = results(log(tmp_path, YAML, monkeypatch))
    changes = [c for r in found for f in r.get("fixes", []) for c in f["artifactChanges"]]
    assert {c["artifactLocation"]["uri"] for c in changes} == {"buildflow.yaml"}
    lines = YAML.splitlines(keepends=True)
    for replacement in (r for c in changes for r in c["replacements"]):
        region, number = replacement["deletedRegion"], replacement["deletedRegion"]["startLine"] - 1
        before, behind = lines[number][: region["startColumn"] - 1], lines[number][region["endColumn"] - 1 :]
        lines[number] = before + replacement["insertedContent"]["text"] + behind
    assert len(changes) == 2
    assert "".join(lines) == replaced(YAML, edits(compile_file(Path("buildflow.yaml"), environment={})))


def test_a_path_is_a_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative and percent-encoded; absolute where it is not below the folder that the command ran in."""
    folder = tmp_path / "my shop #1" / "größe"
    folder.mkdir(parents=True)
    log(folder, YAML, monkeypatch)
    monkeypatch.chdir(tmp_path)
    made = sarif(compile_file(Path("my shop #1/größe/buildflow.yaml"), environment={}))
    Draft202012Validator(LOG).validate(made)
    place = results(made)[0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place == {"uri": "my%20shop%20%231/gr%C3%B6%C3%9Fe/buildflow.yaml", "uriBaseId": "%SRCROOT%"}
    monkeypatch.chdir(folder.parent)
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder / "sub")
    made = sarif(compile_file(Path("../buildflow.yaml"), environment={}))
    Draft202012Validator(LOG).validate(made)
    place = results(made)[0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place == {"uri": (folder / "buildflow.yaml").as_uri()}


def test_a_right_project_is_a_log_without_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert results(log(tmp_path, "project: shop\nroutes: {GET /: 'app:save'}\n", monkeypatch)) == []


def test_every_code_is_a_rule_with_its_explanation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = log(tmp_path, YAML, monkeypatch)["runs"][0]["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(CODES)
    assert [rule["shortDescription"]["text"] for rule in rules] == list(CODES.values())
    assert all(rule["fullDescription"]["text"] == explanation(rule["id"]).text for rule in rules)


MIXED = {"BF124"}
"""Codes that are an error at some places and a warning at others: the rule says error."""


@pytest.mark.parametrize("code", CODES)
def test_a_rules_level_is_that_of_its_example(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in files(explanation(code).wrong).items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    result = compile_file(Path("buildflow.yaml"), environment={})
    shown = {d.severity.value for d in result.diagnostics if d.code == code}
    level = {r["id"]: r["defaultConfiguration"]["level"] for r in sarif(result)["runs"][0]["tool"]["driver"]["rules"]}
    assert {level[code]} == ({"error"} if code in MIXED else shown)


def test_the_command_prints_it_to_stdout_and_ends_as_with_text(tmp_path: Path) -> None:
    (tmp_path / "buildflow.yaml").write_text("project: shop\nprimitives: {images: {type: buckt}}\n")
    result = platform(tmp_path, "check", "--format", "sarif")
    assert (result.returncode, result.stderr) == (1, "")
    made = json.loads(result.stdout)
    Draft202012Validator(LOG).validate(made)
    assert [r["ruleId"] for r in results(made)] == ["BF205"]
    (tmp_path / "buildflow.yaml").write_text("project: shop\n")
    assert platform(tmp_path, "check", "--format", "sarif").returncode == 0
