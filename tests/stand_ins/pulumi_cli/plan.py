"""Update plans: `preview --save-plan` writes one, `up --plan` does nothing else than what it says."""

import json
from pathlib import Path
from typing import Any

from pulumi_cli.problems import CommandFailed, DeploymentFailed
from pulumi_cli.steps import Step
from pulumi_cli.values import UNKNOWN, plain, sealed, unsealed


class Plan:
    """The operations of each resource in order, and the inputs that they were made for."""

    def __init__(self, resources: dict[str, dict[str, Any]] | None = None) -> None:
        self._resources = resources if resources is not None else {}

    # Writing

    def add(self, step: Step) -> None:
        entry = self._resources.setdefault(step.resource.urn, {"steps": []})
        entry["steps"].append(step.op)
        if step.new is not None:
            entry["goal"] = {"type": step.new.type, "name": step.new.name, "inputs": step.new.inputs}

    def save(self, path: str, secrets: Any) -> None:
        plans = sealed(self._resources, lambda text: str(secrets().encrypt(text)))
        Path(path).write_text(json.dumps({"version": 1, "resourcePlans": plans}, indent=4))

    # Keeping to it

    def allow(self, step: Step) -> None:
        """Refuse a step that the plan does not have next for its resource."""
        urn, entry = step.resource.urn, self._resources.get(step.resource.urn)
        if entry is None:
            if step.op != "same":
                raise DeploymentFailed(
                    f"{step.op} is not allowed by the plan: no steps were expected for this resource", urn
                )
            return
        if not entry["steps"]:
            raise DeploymentFailed(
                f"{step.op} is not allowed by the plan: no more steps were expected for this resource", urn
            )
        expected = entry["steps"].pop(0)
        # A step may do less than the plan says, never more.
        if step.op not in (expected, "same"):
            raise DeploymentFailed(
                f"{step.op} is not allowed by the plan: this resource is constrained to {expected}", urn
            )
        if step.new is not None and "goal" in entry and step.op != "same":
            self._allow_inputs(step, entry["goal"]["inputs"])

    def _allow_inputs(self, step: Step, planned: dict[str, Any]) -> None:
        wanted = plain(step.new.inputs) if step.new else {}
        other = [key for key in sorted({*wanted, *planned}) if not _fits(plain(planned.get(key)), wanted.get(key))]
        if other:
            raise DeploymentFailed(
                f"resource {step.resource.urn} violates plan: properties changed: ~~[{', '.join(other)}]",
                step.resource.urn,
            )

    def left_over(self) -> list[str]:
        """What the plan has and did not happen."""
        return [
            f"expected resource operations for {urn} but none were seen"
            for urn, entry in self._resources.items()
            if entry["steps"] and set(entry["steps"]) != {"same"}
        ]


def _fits(planned: Any, wanted: Any) -> bool:
    """What the preview did not know fits everything."""
    if planned == UNKNOWN:
        return True
    if isinstance(planned, dict) and isinstance(wanted, dict):
        return planned.keys() == wanted.keys() and all(_fits(planned[key], wanted[key]) for key in planned)
    if isinstance(planned, list) and isinstance(wanted, list):
        return len(planned) == len(wanted) and all(map(_fits, planned, wanted))
    return planned == wanted or (isinstance(planned, str) and UNKNOWN in planned)


def load(path: str, secrets: Any) -> Plan:
    try:
        data = json.loads(Path(path).read_text())
    except OSError as exc:
        raise CommandFailed(f"open {path}: {exc.strerror.lower() if exc.strerror else exc}") from exc
    return Plan(unsealed(data["resourcePlans"], lambda text: str(secrets().decrypt(text))))
