"""Where `${secret.NAME}` comes from: each process looks a secret up for itself, nearest place first.

    the environment -> .env -> the stack's file or folder -> the stack's store, asked at apply and run time only

No error and no `repr` here holds a value.
"""

import importlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from buildflow.errors import BuildflowError, ServiceUnavailable, UnknownName
from buildflow.providers.env_file import env_file_values
from buildflow.providers.secret_mask import Mask, masked
from buildflow.spec.environment import ENV_FILE
from buildflow.spec.interpolation import resolve_references

if TYPE_CHECKING:
    from buildflow.ir.runtime import SecretsPlan


class SecretStore(Protocol):
    """One place that may hold secrets."""

    def get(self, name: str) -> str | None:
        """The secret, or None where there is none of that name. Raises `ServiceUnavailable` with the reason when
        the place does not answer or refuses."""
        ...

    def place(self, name: str) -> str:
        """Where this secret was looked for, in words."""
        ...


class EnvironmentSecrets:
    """The process's own environment, unless another is given. A variable that is set to nothing is set."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment

    def get(self, name: str) -> str | None:
        return self._environment.get(name)

    def place(self, name: str) -> str:  # noqa: ARG002 - SecretStore's form
        return "the environment"


class EnvFileSecrets:
    """The `.env` file of a project's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str) -> str | None:
        return env_file_values(self._folder).get(name)

    def place(self, name: str) -> str:  # noqa: ARG002 - SecretStore's form
        return ENV_FILE


class FileSecrets:
    """A file of `NAME=value` lines, or a folder with a file a secret, as Docker and Kubernetes mount them.

    `${...}` in a file means itself; of a folder's files the newline at the end is no part of the secret. It is read
    at each look-up: what was missing when a dependency failed may be there when it is tried again.
    """

    def __init__(self, path: Path, shown: str = "") -> None:
        self._path = path
        self._shown = shown or str(path)

    def get(self, name: str) -> str | None:
        try:
            return self._in_folder(name) if self._path.is_dir() else self._in_file(name)
        except OSError as exc:
            words = f"{self._shown} cannot be read for the secret {name}: {(exc.strerror or 'it failed').lower()}"
            raise ServiceUnavailable(words) from exc
        except UnicodeDecodeError:  # whose text holds what it read
            raise ServiceUnavailable(f"the secret {name} of {self._shown} is no UTF-8 text") from None

    def place(self, name: str) -> str:
        if self._path.is_dir():
            return f"{self._shown}/{name}"
        return self._shown if self._path.exists() else f"{self._shown} (which does not exist)"

    def _in_folder(self, name: str) -> str | None:
        file = self._path / name
        return file.read_bytes().decode().removesuffix("\n").removesuffix("\r") if file.is_file() else None

    def _in_file(self, name: str) -> str | None:
        from dotenv import dotenv_values

        return dotenv_values(self._path, interpolate=False, encoding="utf-8-sig").get(name)


class SecretResolver:
    """One process's secrets: the stores in order, each secret asked for once.

    A name with a dot that no store holds is a field: `db.password` is `password` in the JSON object that the secret
    `db` holds, which is how AWS Secrets Manager keeps what belongs together. What is given out is masked in the
    process's texts from then on.
    """

    def __init__(self, stores: Sequence[SecretStore], mask: Mask = masked) -> None:
        self._stores = tuple(stores)
        self._mask = mask
        self._held: dict[str, str] = {}
        self._given: dict[str, str] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> str:
        """Raises `UnknownName` where no store has it, `ServiceUnavailable` where one cannot be asked."""
        value = self._given.get(name)
        if value is None:
            with self._lock:
                value = self._whole_or_field(name)
            if value is None:
                raise self._nowhere(name)
            self._mask.add(value)
            self._given[name] = value
        return value

    def masked(self, text: str) -> str:
        """The text without what was given out."""
        return self._mask(text)

    def put_in(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values with their `${secret.NAME}` resolved."""
        resolved: dict[str, Any] = resolve_references(dict(values), lambda _, name: self.get(name))
        return resolved

    def __repr__(self) -> str:
        return f"SecretResolver({', '.join(type(store).__name__ for store in self._stores)})"

    def _whole_or_field(self, name: str) -> str | None:
        owner, dot, field = name.partition(".")
        refusal = None
        try:
            value = self._look_up(name)
        except ServiceUnavailable as exc:  # who may read `db` is not always told that there is no `db.password`
            value, refusal = None, exc
        if value is None and dot and (text := self._look_up(owner)) is not None:
            return _field_of(text, owner, field)
        if refusal:
            raise refusal
        return value

    def _look_up(self, name: str) -> str | None:
        value = self._held.get(name)
        if value is None:
            value = next((v for store in self._stores if (v := store.get(name)) is not None), None)
        if value is not None:
            self._held[name] = value
        return value

    def _nowhere(self, name: str) -> UnknownName:
        places = ", ".join(store.place(name) for store in self._stores)
        owner, dot, field = name.partition(".")
        hint = f"give {name} in one of them" + (f": export {name}=... before the start" if name.isidentifier() else "")
        if dot:
            hint += f', or {owner} as a JSON object with the field "{field}"'
        return UnknownName(f"the secret {name} is not set; looked for in {places}", hint=hint)


def _field_of(text: str, owner: str, field: str) -> str:
    try:
        fields = json.loads(text)
    except ValueError:  # whose text holds what it read
        fields = None
    if not isinstance(fields, dict):
        raise UnknownName(f'the secret {owner} holds no JSON object, so there is no field "{field}" in it')
    value = fields.get(field)
    if value is None:
        known = ", ".join(sorted(fields)) or "none"
        raise UnknownName(f'the secret {owner} has no field "{field}"', hint=f"its fields: {known}")
    return value if isinstance(value, str) else json.dumps(value)


def open_secrets(plan: "SecretsPlan", root: Path, mask: Mask = masked) -> SecretResolver:
    """The secrets of one stack. Nothing is read before a secret is asked for."""
    stores = stores_here(plan, root)
    if plan.store:
        nearer = SecretResolver(stores, mask)  # the store's own credentials may be secrets, which it cannot hold
        stores.append(_store(plan.store)(plan.prefix, plan.settings, nearer))
    return SecretResolver(stores, mask)


def stores_here(plan: "SecretsPlan", root: Path, environment: Mapping[str, str] = os.environ) -> list[SecretStore]:
    """The places that this machine can look into by itself."""
    stores: list[SecretStore] = [EnvironmentSecrets(environment), EnvFileSecrets(root)]
    if plan.file:
        stores.append(FileSecrets(root / plan.file, plan.file))
    return stores


def _store(name: str) -> Any:
    module, _, attribute = STORES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


STORES = {
    "aws_secrets_manager": "buildflow.providers.aws_secrets:AwsSecretsManager",
    "gcp_secret_manager": "buildflow.providers.gcp_secrets:GcpSecretManager",
}
"""The providers' own stores. Each is made of a prefix, settings and the resolver of the nearer places."""


def cloud_sdk(module: str, extra: str) -> Any:
    """A module of a cloud's SDK. Raises `BuildflowError` with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as exc:
        words = f"this stack needs the `{extra}` extra, which is not installed"
        raise BuildflowError(words, hint=f"pip install 'buildflow-platform[{extra}]'") from exc
