"""A project on disk: Pulumi.yaml, Pulumi.<stack>.yaml, and which stack is selected."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pulumi_cli.problems import CommandFailed

ENDINGS = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Project:
    folder: Path
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.settings["name"])

    @property
    def backend_url(self) -> str:
        """The environment goes before the project, and the project before a login."""
        given = os.environ.get("PULUMI_BACKEND_URL") or (self.settings.get("backend") or {}).get("url")
        return given or _login() or ""

    def stack_file(self, stack: str, config_file: str | None = None) -> Path:
        if config_file:
            return Path(config_file)
        found = (self.folder / f"Pulumi.{stack}{ending}" for ending in ENDINGS)
        return next((path for path in found if path.exists()), self.folder / f"Pulumi.{stack}.yaml")

    def read_stack_settings(self, stack: str, config_file: str | None = None) -> dict[str, Any]:
        path = self.stack_file(stack, config_file)
        return _read(path) if path.exists() else {}

    def write_stack_settings(self, stack: str, settings: dict[str, Any], config_file: str | None = None) -> None:
        path = self.stack_file(stack, config_file)
        path.write_text(json.dumps(settings) if path.suffix == ".json" else yaml.safe_dump(settings))


def find_project() -> Project:
    """The project of the working directory, or of one above it."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        for ending in ENDINGS:
            if (folder / f"Pulumi{ending}").exists():
                return Project(folder, _read(folder / f"Pulumi{ending}"))
    raise CommandFailed(
        f"no Pulumi.yaml project file found (searching upwards from {Path.cwd()}). If you have not created a project "
        "yet, use `pulumi new` to do so: no project file found"
    )


def _read(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}


def stack_name(reference: str, project: Project) -> str:
    """The name in `dev` or `organization/project/dev`."""
    *qualifiers, name = reference.split("/")
    if len(qualifiers) > 1 and qualifiers[-1] != project.name:
        raise CommandFailed(
            f"provided project name {qualifiers[-1]!r} doesn't match Pulumi.yaml project {project.name!r}"
        )
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", name):
        raise CommandFailed(
            "a stack name may only contain alphanumeric, hyphens, underscores, or periods: "
            f"invalid character in stack name {name!r}"
        )
    return name


def selected_stack(project: Project) -> str | None:
    path = _selection(project)
    return json.loads(path.read_text()).get("stack") if path.exists() else None


def select_stack(project: Project, name: str | None) -> None:
    path = _selection(project)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"stack": name} if name else {}))


def _selection(project: Project) -> Path:
    place = hashlib.sha1(str(project.folder).encode()).hexdigest()
    return _home() / "workspaces" / f"{project.name}-{place}-workspace.json"


def _login() -> str | None:
    path = _home() / "credentials.json"
    return json.loads(path.read_text()).get("current") if path.exists() else None


def _home() -> Path:
    return Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
