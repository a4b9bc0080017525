"""Every correct project with 500 mistakes, one at a time: none ends the compiler, each is told at its line.

A mutation that fails here is worth a golden case: its text is `mutate(projects()[NAME], NUMBER).text`.
BUILDFLOW_MUTATIONS=5000 tries more of them.
"""

import difflib
import gc
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from buildflow.cli.terminal import render
from buildflow.compiler import Compilation
from buildflow.diagnostics import Diagnostic, Severity
from buildflow.primitives.registry import all_primitives
from buildflow.spec import project as language
from tests.mutation.layout import with_text
from tests.mutation.mutations import Mutation, mutate
from tests.mutation.projects import FILE, Project, projects
from tests.mutation.tally import judge
from tests.mutation.workshop import Workshop, malformed, share_sources, untold

MUTATIONS = int(os.environ.get("BUILDFLOW_MUTATIONS", "500"))
SECONDS = 2.0
SHOWN = 5
"""Mutations that a failing test shows, at most."""


@pytest.fixture
def workshop(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.chdir(tmp_path)
    share_sources(tmp_path, monkeypatch)
    return Workshop(projects()[request.param], tmp_path)


@pytest.fixture(autouse=True)
def seldom_collected() -> Iterator[None]:
    """As the program does it: thousands of short compilations leave no circles worth looking for."""
    before = gc.get_threshold()
    gc.set_threshold(200_000)
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize("workshop", projects(), indirect=True)
def test_every_mistake_is_told_at_its_line(workshop: Workshop, shared: Path) -> None:
    tally: Counter[str] = Counter()
    failures: list[str] = []
    for number, mutation in distinct(workshop.project):
        started = time.process_time()
        result = workshop.compiled(mutation, number)
        wrong = [f"took {time.process_time() - started:.1f} s"] if time.process_time() - started > SECONDS else []
        wrong += [*malformed(result), *untold(mutation, workshop.new_errors(result))]
        if wrong:
            failures.append(shown(workshop.project, number, mutation, result, wrong))
        elif mutation.name and mutation.operator == "misspell":
            tally[f"{mutation.kind}: met"] += 1
            tally[f"{mutation.kind}: right"] += is_right(workshop.project, mutation, workshop.new_errors(result))
    assert not failures, f"{len(failures)} of {MUTATIONS} mutations:\n\n" + "\n".join(failures[:SHOWN])
    judge(workshop.project, tally, shared)


def distinct(project: Project) -> Iterator[tuple[int, Mutation]]:
    """The mutations with their numbers, without those that come out like an earlier one."""
    seen: set[str] = set()
    for number in range(MUTATIONS):
        mutation = mutate(project, number)
        if mutation.text not in seen:
            seen.add(mutation.text)
            yield number, mutation


def is_right(project: Project, mutation: Mutation, errors: list[Diagnostic]) -> bool:
    """Whether the first suggestion at the line of the mistake is what stood there: applied, it cures the file."""
    (lines,) = mutation.promises
    for d in (d for d in errors if d.span.line in lines):
        if d.fix:
            cured = with_text(mutation.text, d.fix.span.line, d.fix.span.column, d.fix.old, d.fix.new)
            return cured.casefold() == project.text.casefold()
        if hinted := re.search('did you mean "(.+?)"', d.hint):
            return mutation.name.casefold() in (hinted[1].casefold(), *re.split("[.:]", hinted[1].casefold()))
    return False


def shown(project: Project, number: int, mutation: Mutation, result: Compilation, wrong: list[str]) -> str:
    before, after = project.text.splitlines(), mutation.text.splitlines()
    diff = difflib.unified_diff(before, after, lineterm="", n=1)
    told = [render(d, {FILE: result.document.lines}) for d in result.diagnostics]
    head = f"--- {project.name}, number {number}: {mutation.operator}, {mutation.note} {mutation.kind}"
    return "\n".join([head, *(f"  {w}" for w in wrong), *list(diff)[2:], "told:", *(told or ["nothing"]), ""])


# how often the first suggestion is right


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of one run of the tests share."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "mutations"
    folder.mkdir(exist_ok=True)
    return folder


# what is mutated


def test_a_number_is_one_mutation_and_changes_the_file() -> None:
    project = projects()["everything"]
    for number in range(100):
        assert mutate(project, number) == mutate(project, number)
        assert mutate(project, number).text != project.text


def test_one_project_names_every_key_of_the_language() -> None:
    """A key that a section or a primitive gains belongs into tests/mutation/everything/buildflow.yaml."""
    named = {n.text for n in projects()["everything"].names if n.kind == "key"}
    sections = (language.Project, *language.SECTIONS.values(), *language.BUILT_INS.values())
    models = [*sections, *(primitive.spec for primitive in all_primitives().values())]
    assert sorted(set().union(*map(keys_of, models)) - named) == []


def keys_of(annotation: Any) -> set[str]:
    """All keys of a model and of the models in it."""
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return set().union(*map(keys_of, get_args(annotation)))
    fields = annotation.model_fields.items()
    return {f.alias or name for name, f in fields}.union(*(keys_of(f.annotation) for _, f in fields))


@pytest.mark.parametrize("name", projects())
def test_what_is_mutated_is_correct(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No error but that a primitive is not on the provider yet."""
    monkeypatch.chdir(tmp_path)
    workshop = Workshop(projects()[name], tmp_path)
    errors = [d for d in workshop.compile(workshop.project.text).diagnostics if d.severity is Severity.ERROR]
    assert [d for d in errors if d.code != "BF217"] == []
