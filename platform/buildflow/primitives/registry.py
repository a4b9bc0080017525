"""Finds the primitives: every folder beside this file that holds a `PRIMITIVE`.

Which providers a primitive knows is the presence of `<provider>.py` in its folder; a driver's module, and
with it a cloud's SDK, is imported only when the driver is used.
"""

import importlib
import importlib.util
import pkgutil
from functools import cache
from typing import Any

from buildflow import primitives
from buildflow.primitives.base import Primitive
from buildflow.spec.project import PROVIDERS


@cache
def all_primitives() -> dict[str, Primitive]:
    """Every primitive by its type, sorted."""
    found: dict[str, Primitive] = {}
    for module in sorted(pkgutil.iter_modules(primitives.__path__), key=lambda m: m.name):
        if module.ispkg:
            primitive = importlib.import_module(f"{primitives.__name__}.{module.name}").PRIMITIVE
            found[primitive.type] = primitive
    return found


@cache
def providers_of(type: str) -> tuple[str, ...]:
    """The providers that have a driver for this type. Imports none of them."""
    package = f"{primitives.__name__}.{type}"
    return tuple(p for p in PROVIDERS if importlib.util.find_spec(f"{package}.{p}") is not None)


@cache
def driver(type: str, provider: str) -> Any:
    """The driver of a type on a provider. Raises ModuleNotFoundError where there is none: ask `providers_of`."""
    return importlib.import_module(f"{primitives.__name__}.{type}.{provider}").DRIVER


@cache
def is_declared(type: str, provider: str) -> bool:
    """Whether a cloud's engine creates this one (a `CloudDriver`), rather than its driver itself."""
    return hasattr(driver(type, provider), "declare")
