"""Property values: as they cross the gRPC, as the checkpoint keeps them, and how two of them differ.

Inside of the stand-in they are plain Python; a secret is wrapped in `Secret`, and what a preview cannot know is the
text UNKNOWN, which is also its form on the wire.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

Properties = dict[str, Any]


@dataclass(frozen=True)
class Secret:
    value: Any


def from_struct(struct: Any) -> Properties:
    """The properties of a `google.protobuf.Struct`, without those that are null."""
    read = {key: _from_message(value) for key, value in struct.fields.items()}
    return {key: value for key, value in read.items() if value is not None}


def _from_message(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        fields = from_struct(value.struct_value)
        return Secret(fields.get("value")) if fields.get(SIGNATURE) == SECRET else fields
    if kind == "list_value":
        return [_from_message(item) for item in value.list_value.values]
    if kind == "number_value":
        return int(value.number_value) if value.number_value.is_integer() else value.number_value
    return None if kind == "null_value" else getattr(value, kind)


def fill_struct(struct: Any, properties: Mapping[str, Any]) -> Any:
    for key, value in properties.items():
        _fill_message(struct.fields[key], value)
    return struct


def _fill_message(message: Any, value: Any) -> None:
    if isinstance(value, Secret):
        fill_struct(message.struct_value, {SIGNATURE: SECRET, "value": value.value})
    elif isinstance(value, Mapping):
        message.struct_value.SetInParent()
        fill_struct(message.struct_value, value)
    elif isinstance(value, list):
        message.list_value.SetInParent()
        for item in value:
            _fill_message(message.list_value.values.add(), item)
    elif value is None:
        message.null_value = 0
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int | float):
        message.number_value = value
    else:
        message.string_value = value


def mapped(value: Any, of_secret: Callable[[Any], Any]) -> Any:
    """`value` with every secret in it replaced by `of_secret(what it hides)`."""
    if isinstance(value, Secret):
        return of_secret(value.value)
    if isinstance(value, Mapping):
        return {key: mapped(item, of_secret) for key, item in value.items()}
    if isinstance(value, list):
        return [mapped(item, of_secret) for item in value]
    return value


def plain(value: Any) -> Any:
    """`value` without its secrecy: what a provider gets."""
    return mapped(value, plain)


def masked(value: Any) -> Any:
    """What is shown to people."""
    return mapped(value, lambda _: "[secret]")


def blinded(value: Any) -> Any:
    """What an engine event shows: a secret's place, and not the secret."""
    return mapped(value, lambda _: {SIGNATURE: SECRET, "ciphertext": "[secret]"})


def sealed(value: Any, encrypt: Callable[[str], str]) -> Any:
    """The checkpoint's form."""
    return mapped(value, lambda hidden: {SIGNATURE: SECRET, "ciphertext": encrypt(json.dumps(plain(hidden)))})


def revealed(value: Any) -> Any:
    """The form of `stack export --show-secrets`."""
    return mapped(value, lambda hidden: {SIGNATURE: SECRET, "plaintext": json.dumps(plain(hidden))})


def unsealed(value: Any, decrypt: Callable[[str], str]) -> Any:
    """Read either form back."""
    if isinstance(value, list):
        return [unsealed(item, decrypt) for item in value]
    if not isinstance(value, Mapping):
        return value
    if value.get(SIGNATURE) == SECRET:
        text = value["plaintext"] if "plaintext" in value else decrypt(value["ciphertext"])
        return Secret(json.loads(text))
    return {key: unsealed(item, decrypt) for key, item in value.items()}


def is_secret(value: Any) -> bool:
    return isinstance(value, Secret) or any(map(is_secret, _items(value)))


def is_unknown(value: Any) -> bool:
    return value == UNKNOWN or any(map(is_unknown, _items(value)))


def _items(value: Any) -> Any:
    if isinstance(value, Secret):
        return (value.value,)
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


def differences(old: Any, new: Any, path: str = "") -> dict[str, str]:
    """Where two values differ: property paths (`tags.team`, `rules[0].status`) and add, update or delete.

    Lists of texts are sets to AWS (events, subnets, addresses): their order does not count."""
    if isinstance(old, Secret) or isinstance(new, Secret):
        return {} if plain(old) == plain(new) else {path: "update"}
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return _differences_of_mappings(old, new, path)
    if isinstance(old, list) and isinstance(new, list) and not _texts(old, new):
        return _differences_of_lists(old, new, path)
    same = sorted(old) == sorted(new) if _texts(old, new) else old == new
    return {} if same else {path: "update"}


def _texts(old: Any, new: Any) -> bool:
    return isinstance(old, list) and isinstance(new, list) and all(isinstance(item, str) for item in (*old, *new))


def _differences_of_mappings(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for key in dict.fromkeys((*old, *new)):
        inner = _step(path, key)
        if key not in old:
            found[inner] = "add"
        elif key not in new:
            found[inner] = "delete"
        else:
            found |= differences(old[key], new[key], inner)
    return found


def _differences_of_lists(old: list[Any], new: list[Any], path: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for index in range(max(len(old), len(new))):
        inner = f"{path}[{index}]"
        if index >= len(old):
            found[inner] = "add"
        elif index >= len(new):
            found[inner] = "delete"
        else:
            found |= differences(old[index], new[index], inner)
    return found


def _step(path: str, key: str) -> str:
    if any(sign in key for sign in '."[]'):
        return f"{path}[{json.dumps(key)}]"
    return f"{path}.{key}" if path else key


def root(path: str) -> str:
    """The property that a path begins with."""
    return path.split(".")[0].split("[")[0]


def document(text: Any) -> Any:
    """The meaning of a JSON text; the text itself where it is none."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text
