"""A plan in a file keeps no value of the project, and is good for what was planned alone."""

from pathlib import Path

import pytest

from buildflow.cli.plan_file import StalePlan, read_plan, write_plan
from buildflow.cli.project import Choice, compiled
from buildflow.ir.changes import ChangeSet, ResourceChange

YAML = """
project: shop
primitives: {files: {type: bucket, name: "${var.name}-${var.word}"}}
variables: {name: a, word: b}
"""
VALUES = ["var.name=hush", "var.word=shh"]


def changes(choice: Choice) -> ChangeSet:
    (bucket,) = compiled(choice).graph.resources
    change = ResourceChange(verb="create", key=bucket.key, label=bucket.label, id=bucket.id, new=bucket)
    return ChangeSet(project="shop", stack="local", changes=(change,))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    (tmp_path / "buildflow.yaml").write_text(YAML)
    choice = Choice(tmp_path / "buildflow.yaml", None, VALUES)
    result = compiled(choice)
    assert result.graph["files"].name == "hush-shh"
    write_plan(tmp_path / "shop.plan", choice, result, changes(choice))
    return tmp_path / "shop.plan"


def test_no_value_of_set_is_in_it(written: Path) -> None:
    assert written.stat().st_mode & 0o777 == 0o600
    assert not any(word in written.read_text() for word in ("hush", "shh"))


@pytest.mark.parametrize("values", [VALUES, VALUES[::-1]])
def test_the_same_values_are_given_again(values: list[str], written: Path) -> None:
    plan = read_plan(written)
    choice = plan.choice(values)
    plan.refuse_other(compiled(choice))
    plan.refuse_other_changes(changes(choice))


@pytest.mark.parametrize("values", [None, [], VALUES[:1], [*VALUES, "var.more=1"]])
def test_other_names_are_refused(values: list[str] | None, written: Path) -> None:
    with pytest.raises(StalePlan, match=r"made with --set var\.name=\.\.\. --set var\.word=\.\.\.") as refused:
        read_plan(written).choice(values)
    assert "a plan keeps no values" in refused.value.hint


def test_other_values_are_refused(written: Path) -> None:
    plan = read_plan(written)
    choice = plan.choice(["var.name=hush", "var.word=other"])
    with pytest.raises(StalePlan, match="or the values of name, word are not any more what the plan was made for"):
        plan.refuse_other(compiled(choice))
    with pytest.raises(StalePlan, match="the stack is not any more what the plan was made for"):
        plan.refuse_other_changes(changes(choice))
