"""A plan in a file: what `plan --out` saw, for `apply FILE` to make exactly that, or nothing."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from buildflow.cli.project import Choice
from buildflow.compiler import Compilation
from buildflow.errors import BuildflowError
from buildflow.ir.changes import ChangeSet
from buildflow.ir.runtime import RuntimePlan

FORMAT = 1


class StalePlan(BuildflowError):
    """The plan is out of date."""

    hint = "make a new one with `platform plan --out`, look at it, and apply that"


class PlanFile(BaseModel):
    """What was chosen, what was declared, and what would be done. It holds no secret: those are references."""

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    file: Path
    stack: str
    values: list[str] | None = None
    plan: RuntimePlan
    changes: ChangeSet

    @property
    def choice(self) -> Choice:
        return Choice(self.file, self.stack, self.values)

    def refuse_other(self, result: Compilation) -> None:
        """Raise `StalePlan` when the project does not declare any more what was planned."""
        if result.plan != self.plan:
            raise StalePlan(f"{self.file} or its handlers are not any more what the plan was made for")


def write_plan(path: Path, choice: Choice, result: Compilation, changes: ChangeSet) -> None:
    from buildflow.provision.state import write_whole

    written = PlanFile(file=choice.file, stack=result.stack, values=choice.values, plan=result.plan, changes=changes)
    write_whole(path, written.model_dump_json(indent=1))


def read_plan(path: Path) -> PlanFile:
    try:
        return PlanFile.model_validate_json(path.read_bytes())
    except FileNotFoundError as exc:
        raise BuildflowError(f"there is no plan {path}", hint="platform plan --out FILE writes one") from exc
    except ValidationError as exc:
        words = f"{path} is no plan of this version: {exc.errors()[0]['msg']}"
        raise BuildflowError(words, hint="platform plan --out FILE writes one") from exc
