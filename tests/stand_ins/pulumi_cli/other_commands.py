"""The rest of what the Automation API or a person may call."""

import getpass
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from pulumi_cli import workspace
from pulumi_cli.checkpoint import checkpoint_file
from pulumi_cli.options import Arguments
from pulumi_cli.problems import CommandFailed
from pulumi_cli.stacks import Stack

PLUGINS = {"aws": "7.51.1", "random": "4.18.0"}


def whoami(arguments: Arguments) -> int:
    if arguments.has("--json"):
        url = workspace.find_project().backend_url
        print(json.dumps({"user": getpass.getuser(), "organizations": [], "url": url}))
    else:
        print(getpass.getuser())
    return 0


def plugin_ls(arguments: Arguments) -> int:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    rows = [
        {"name": name, "kind": "resource", "version": version, "size": 0, "installTime": now, "lastUsedTime": now}
        for name, version in PLUGINS.items()
    ]
    print(json.dumps(rows, indent=2))
    return 0


def plugin_install(arguments: Arguments) -> int:
    """Every provider is part of the stand-in."""
    return 0


def login(arguments: Arguments) -> int:
    url = next(iter(arguments.words[1:]), "")
    path = _credentials()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"current": url}))
    print(f"Logged in as {getpass.getuser()} ({url})")
    return 0


def logout(arguments: Arguments) -> int:
    _credentials().unlink(missing_ok=True)
    return 0


def _credentials() -> Path:
    return Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi") / "credentials.json"


def unprotect(arguments: Arguments) -> int:
    """`state unprotect URN`, or `--all`."""
    stack = Stack(arguments)
    with stack.backend.locked(stack.name):
        deployment = stack.deployment()
        wanted = [each for each in deployment["resources"] if arguments.has("--all") or each["urn"] in arguments.words]
        if not wanted:
            raise CommandFailed(f"No such resource {arguments.words[-1]!r} exists in the current state")
        for each in wanted:
            each.pop("protect", None)
        stack.backend.write(stack.name, json.dumps(checkpoint_file(stack.qualified, deployment)))
    print("Resource unprotected")
    return 0


def forget(arguments: Arguments) -> int:
    """`state delete URN`: the resource stays where it is, and the stack forgets it."""
    stack = Stack(arguments)
    with stack.backend.locked(stack.name):
        deployment = stack.deployment()
        kept = [each for each in deployment["resources"] if each["urn"] not in arguments.words]
        if len(kept) == len(deployment["resources"]):
            raise CommandFailed(f"No such resource {arguments.words[-1]!r} exists in the current state")
        stack.backend.write(stack.name, json.dumps(checkpoint_file(stack.qualified, deployment | {"resources": kept})))
    print("Resource deleted")
    return 0
