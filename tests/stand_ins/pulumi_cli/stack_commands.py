"""`pulumi stack ...`: make, select, list, show and remove stacks."""

import json
import sys
from pathlib import Path
from typing import Any

from pulumi_cli import workspace
from pulumi_cli.backend import FileBackend
from pulumi_cli.checkpoint import checkpoint_file, from_json, new_deployment, shown, to_json
from pulumi_cli.options import Arguments
from pulumi_cli.problems import CommandFailed
from pulumi_cli.stacks import Stack
from pulumi_cli.values import masked, plain, sealed, unsealed

ROOT = "pulumi:pulumi:Stack"


def init(arguments: Arguments) -> int:
    stack = Stack(arguments, name=next(iter(arguments.words[2:]), None))
    kind = arguments.one("--secrets-provider")
    if kind:
        stack.write_settings(stack.settings | {"secretsprovider": kind})
    stack.backend.create(stack.name, json.dumps(checkpoint_file(stack.qualified, {})))
    try:
        secrets = stack.secrets
    except CommandFailed:
        stack.backend.remove(stack.name)
        raise
    stack.backend.write(stack.name, json.dumps(checkpoint_file(stack.qualified, new_deployment(secrets.salt))))
    if not arguments.has("--no-select"):
        workspace.select_stack(stack.project, stack.name)
    print(f"Created stack '{stack.name}'")
    return 0


def select(arguments: Arguments) -> int:
    stack = Stack(arguments, name=next(iter(arguments.words[2:]), None))
    if arguments.has("--create") and stack.name not in stack.backend.stacks():
        return init(arguments)
    stack.backend.read(stack.name)
    workspace.select_stack(stack.project, stack.name)
    return 0


def show(arguments: Arguments) -> int:
    stack = Stack(arguments)
    resources = stack.deployment().get("resources", [])
    print(f"Current stack is {stack.name}:\nCurrent stack resources ({len(resources)}):")
    for resource in resources:
        print(f"    {resource['type']}  {resource['urn'].rsplit('::', 1)[1]}")
    return 0


def ls(arguments: Arguments) -> int:
    project = workspace.find_project()
    backend = FileBackend(project.backend_url, project.name)
    selected = workspace.selected_stack(project)
    rows = [_row(backend, name, name == selected) for name in backend.stacks()]
    if arguments.has("--json"):
        print(json.dumps(rows, indent=2))
    else:
        print("\n".join(("NAME  LAST UPDATE  RESOURCE COUNT", *(row["name"] for row in rows))))
    return 0


def _row(backend: FileBackend, name: str, current: bool) -> dict[str, Any]:
    resources = (backend.read(name)["checkpoint"].get("latest") or {}).get("resources", [])
    changed = backend.changed_at(name).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return {
        "name": name,
        "current": current,
        "updateInProgress": bool(backend.locks(name)),
        "lastUpdate": changed,
        "resourceCount": len(resources),
    }


def rm(arguments: Arguments) -> int:
    stack = Stack(arguments, name=next(iter(arguments.words[2:]), None))
    with stack.backend.locked(stack.name):
        if stack.deployment().get("resources") and not arguments.has("--force"):
            raise CommandFailed(
                f"'{stack.name}' still has resources; removal rejected. Possible actions:\n"
                f"- Make sure that '{stack.name}' is the stack that you want to destroy\n"
                "- Run `pulumi destroy` to delete the resources, then run `pulumi stack rm`\n"
                "- Run `pulumi stack rm --force` to override this error"
            )
        stack.backend.remove(stack.name)
    if not arguments.has("--preserve-config"):
        stack.project.stack_file(stack.name).unlink(missing_ok=True)
    if workspace.selected_stack(stack.project) == stack.name:
        workspace.select_stack(stack.project, None)
    print(f"Stack '{stack.name}' has been removed!")
    return 0


def output(arguments: Arguments) -> int:
    stack = Stack(arguments)
    root = next((each for each in stack.deployment().get("resources", []) if each["type"] == ROOT), {})
    reveal = arguments.has("--show-secrets")
    # What is only shown as [secret] needs no passphrase.
    given = unsealed(
        root.get("outputs", {}), (lambda text: stack.secrets.decrypt(text)) if reveal else lambda _: "null"
    )
    outputs = plain(given) if reveal else masked(given)
    if names := arguments.words[2:]:
        if names[0] not in outputs:
            raise CommandFailed(f"current stack does not have output property '{names[0]}'")
        outputs = outputs[names[0]]
    print(json.dumps(outputs, indent=2) if arguments.has("--json") or isinstance(outputs, dict) else outputs)
    return 0


def history(arguments: Arguments) -> int:
    stack = Stack(arguments)
    stack.backend.read(stack.name)
    entries = stack.backend.history(stack.name)
    if size := int(arguments.one("--page-size") or 0):
        first = (int(arguments.one("--page") or 1) - 1) * size
        entries = entries[first : first + size]
    if arguments.has("--show-secrets"):
        for entry in entries:
            _reveal(stack, entry["config"])
    print(json.dumps(entries, indent=2))
    return 0


def _reveal(stack: Stack, config: dict[str, Any]) -> None:
    """The history keeps no secret: it is that of the config as it is now."""
    hidden = [key for key, entry in config.items() if entry["secret"]]
    values = stack.config() if hidden else {}
    for key in hidden:
        config[key]["value"] = str(plain(values.get(key, "")))


def export(arguments: Arguments) -> int:
    stack = Stack(arguments)
    deployment = stack.deployment()
    if arguments.has("--show-secrets"):
        deployment = shown(deployment, lambda text: stack.secrets.decrypt(text))
    text = json.dumps({"version": 3, "deployment": deployment}, indent=4)
    if arguments.one("--file"):
        Path(arguments.one("--file") or "").write_text(text)
    else:
        print(text)
    return 0


def import_state(arguments: Arguments) -> int:
    stack = Stack(arguments)
    file = arguments.one("--file")
    given = json.loads(Path(file).read_text() if file else sys.stdin.read())["deployment"] or {}
    with stack.backend.locked(stack.name):
        stack.backend.read(stack.name)
        deployment = new_deployment(
            stack.secrets.salt,
            [_taken(stack, data) for data in given.get("resources") or []],
            [{**each, "resource": _taken(stack, each["resource"])} for each in given.get("pending_operations") or []],
        )
        stack.backend.write(stack.name, json.dumps(checkpoint_file(stack.qualified, deployment)))
    print("Import complete.")
    return 0


def _taken(stack: Stack, data: dict[str, Any]) -> dict[str, Any]:
    urn = str(data["urn"])
    if urn.split("::")[0] != f"urn:pulumi:{stack.name}":
        raise CommandFailed(f"resource '{urn}' is from a different stack (expected '{stack.name}')")
    read = from_json(data, stack.secrets.decrypt)
    return to_json(read, lambda value: sealed(value, stack.secrets.encrypt))


def tag(arguments: Arguments) -> int:
    raise CommandFailed("stack tags are not supported for the backend file")
