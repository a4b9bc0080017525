"""A plan in a file: what `plan --out` saw, for `apply FILE` to make exactly that, or nothing."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from buildflow.cli.project import Choice
from buildflow.compiler import Compilation
from buildflow.errors import BuildflowError
from buildflow.ir.changes import ChangeSet

FORMAT = 2


class StalePlan(BuildflowError):
    """The plan is out of date."""

    hint = "make a new one with `platform plan --out`, look at it, and apply that"


class PlanFile(BaseModel):
    """What was chosen, and digests of what was declared and of what would be done. It holds no value of the project:
    one of `--set` may be a secret."""

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    file: Path
    stack: str
    variables: list[str]
    """The names that `--set` gave a value."""
    declared: str
    changes: str

    def choice(self, values: Sequence[str] | None) -> Choice:
        """What was chosen, with the values that it does not keep. Raises `StalePlan` when these are of other names."""
        choice = Choice(self.file, self.stack, list(values or ()))
        if sorted(choice.variables) != sorted(self.variables):
            given = " ".join(f"--set var.{name}=..." for name in self.variables)
            words = f"the plan was made with {given}" if given else "the plan was made without --set"
            raise StalePlan(words, hint="a plan keeps no values: give the same ones, and only these")
        return choice

    def refuse_other(self, result: Compilation) -> None:
        """Raise `StalePlan` when the project does not declare any more what was planned."""
        if _digest(result.plan) != self.declared:
            given = f", or the values of {', '.join(self.variables)}" if self.variables else ""
            raise StalePlan(f"{self.file} or its handlers{given} are not any more what the plan was made for")

    def refuse_other_changes(self, changes: ChangeSet) -> None:
        """Raise `StalePlan` when something else would be done now than what was planned."""
        if _digest(changes) != self.changes:
            raise StalePlan("the stack is not any more what the plan was made for")


def write_plan(path: Path, choice: Choice, result: Compilation, changes: ChangeSet) -> None:
    from buildflow.provision.state import write_whole

    written = PlanFile(
        file=choice.file,
        stack=result.stack,
        variables=sorted(choice.variables),
        declared=_digest(result.plan),
        changes=_digest(changes),
    )
    write_whole(path, written.model_dump_json(indent=1))


def read_plan(path: Path) -> PlanFile:
    try:
        return PlanFile.model_validate_json(path.read_bytes())
    except FileNotFoundError as exc:
        raise BuildflowError(f"there is no plan {path}", hint="platform plan --out FILE writes one") from exc
    except ValidationError as exc:
        words = f"{path} is no plan of this version: {exc.errors()[0]['msg']}"
        raise BuildflowError(words, hint="platform plan --out FILE writes one") from exc


def _digest(model: BaseModel) -> str:
    return hashlib.sha256(json.dumps(model.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
