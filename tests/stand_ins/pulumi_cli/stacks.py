"""The stack that a command is about: its project, its backend, its settings, its secrets."""

from functools import cached_property
from typing import Any

from pulumi_cli import passphrase, workspace
from pulumi_cli.backend import FileBackend
from pulumi_cli.options import Arguments
from pulumi_cli.problems import CommandFailed
from pulumi_cli.values import Properties, Secret


class Stack:
    """One stack of the project in the working directory."""

    def __init__(self, arguments: Arguments, name: str | None = None) -> None:
        self.project = workspace.find_project()
        self.backend = FileBackend(self.project.backend_url, self.project.name)
        reference = name or arguments.one("--stack") or workspace.selected_stack(self.project)
        if not reference:
            raise CommandFailed(
                "no stack selected; please use `pulumi stack select` or `pulumi stack init` to choose one"
            )
        self.name = workspace.stack_name(reference, self.project)
        self._config_file = arguments.one("--config-file")

    @property
    def qualified(self) -> str:
        return f"organization/{self.project.name}/{self.name}"

    # Settings: Pulumi.<stack>.yaml

    @property
    def settings(self) -> dict[str, Any]:
        return self.project.read_stack_settings(self.name, self._config_file)

    def write_settings(self, settings: dict[str, Any]) -> None:
        self.project.write_stack_settings(self.name, settings, self._config_file)

    @cached_property
    def secrets(self) -> passphrase.Passphrase:
        """The key of the stack; the salt is in its settings, else in its checkpoint, else it is new."""
        settings = self.settings
        kind = settings.get("secretsprovider", "passphrase")
        if kind not in ("passphrase", "default"):
            raise CommandFailed(f"unknown secrets provider type {kind!r} (the stand-in knows passphrase alone)")
        state = (self.deployment().get("secrets_providers") or {}).get("state") or {}
        salt = settings.get("encryptionsalt") or state.get("salt")
        try:
            opened = passphrase.unlock(salt) if salt else passphrase.create()
        except CommandFailed as failure:
            raise CommandFailed(f"getting stack configuration: get stack secrets manager: {failure}") from failure
        if settings.get("encryptionsalt") != opened.salt:
            self.write_settings(settings | {"encryptionsalt": opened.salt})
        return opened

    def config(self) -> Properties:
        """Config values by their full key, secrets decrypted."""
        given = self.settings.get("config") or {}
        return {self.key(name): self._config_value(value) for name, value in given.items()}

    def key(self, name: str) -> str:
        return name if ":" in name else f"{self.project.name}:{name}"

    def _config_value(self, value: Any) -> Any:
        if isinstance(value, dict) and set(value) == {"secure"}:
            return Secret(self.secrets.decrypt(value["secure"]))
        if isinstance(value, bool):
            return str(value).lower()
        return str(value)

    # The checkpoint

    def deployment(self) -> dict[str, Any]:
        latest = self.backend.read(self.name)["checkpoint"].get("latest") or {}
        return dict(latest)
