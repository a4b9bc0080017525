"""Dependencies of one process: built by scope, in order, closed in reverse.

A factory is a function, an async function, a class, a generator or a context manager; what comes behind its
`yield` (or its exit) is its clean-up.
"""

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any

from buildflow.errors import BuildflowError, DependencyFailed
from buildflow.ir.runtime import DependencyPlan, Injection, RuntimePlan
from buildflow.runtime.connections import Connections
from buildflow.runtime.functions import load
from buildflow.validation import in_words

LONG_LIVED = ("global", "replica")


class Container:
    """Builds what handlers are injected with. `replace` stands in for dependencies (tests).

    `threads` builds synchronous long-lived dependencies in a thread, so that a serving loop stays responsive.
    """

    def __init__(
        self,
        plan: RuntimePlan,
        connections: Connections,
        *,
        replace: Mapping[str, Any] | None = None,
        threads: bool = False,
        inherited: Mapping[str, Any] | None = None,
    ) -> None:
        self.plans = {d.key: d for d in plan.dependencies}
        self.connections = connections
        self.threads = threads
        self.replaced = dict(replace or {})
        self.values: dict[str, Any] = {**(inherited or {}), **self.replaced}
        self._factories: dict[str, Any] = {}
        self._stack = contextlib.AsyncExitStack()

    async def open(self, keys: Iterable[str], scopes: tuple[str, ...] = LONG_LIVED) -> None:
        """Build the long-lived ones of `keys` (in building order). Raises `DependencyFailed`, in words; what was
        built before stays for the next try."""
        for key in keys:
            plan = self.plans[key]
            if key not in self.values and plan.scope in scopes:
                try:
                    self.values[key] = await self._build_whole(plan)
                except BuildflowError as exc:
                    raise DependencyFailed(f'dependency "{key}": {exc}', hint=exc.hint) from exc
                except Exception as exc:
                    words = f'dependency "{key}" ({plan.factory}) raised {type(exc).__name__}: {in_words(exc)}'
                    raise DependencyFailed(words) from exc

    async def _build_whole(self, plan: DependencyPlan) -> Any:
        """One long-lived dependency; when it fails, what was built for it alone is closed before the next try."""
        async with contextlib.AsyncExitStack() as stack:
            value = await self.build(plan, stack, {}, threads=self.threads)
            self._stack.push_async_callback(stack.pop_all().aclose)
        return value

    async def close(self) -> None:
        stack, self._stack = self._stack, contextlib.AsyncExitStack()
        self.values = dict(self.replaced)
        await stack.aclose()

    async def build(
        self, plan: DependencyPlan, stack: contextlib.AsyncExitStack, local: dict[str, Any], *, threads: bool = False
    ) -> Any:
        """One dependency, its needs first; its clean-up goes onto `stack`, `local` keeps what one request shares."""
        resolve = self.connections.resolve  # a secret's store may take its time
        arguments = {**(await asyncio.to_thread(resolve, plan.arguments) if threads else resolve(plan.arguments))}
        for injection in plan.inject:
            arguments[injection.parameter] = await self.value(injection, stack, local)
        return await enter(self._factory(plan), arguments, stack, threads=threads)

    def _factory(self, plan: DependencyPlan) -> Any:
        """A dependency's factory. Raises `DependencyFailed` for one that needs what only a request has."""
        if plan.key not in self._factories:
            factory = load(plan.factory)
            filled = {*plan.arguments, *(i.parameter for i in plan.inject)}
            if missing := _unfilled(factory, filled):
                words = f'its parameter "{missing}" is not filled: a request could, and here is none'
                raise DependencyFailed(f"{plan.factory}: {words}")
            self._factories[plan.key] = factory
        return self._factories[plan.key]

    async def value(self, injection: Injection, stack: contextlib.AsyncExitStack, local: dict[str, Any]) -> Any:
        """What one parameter receives, built now if it lives for a request or an injection."""
        key = injection.key
        if injection.kind == "primitive":
            return self.connections.handle(key)
        if key in self.values:
            return self.values[key]
        if key in local:
            return local[key]
        plan = self.plans[key]
        built = await self.build(plan, stack, local)
        if plan.scope == "request":
            local[key] = built
        return built

    def constants(self, inject: Iterable[Injection]) -> dict[str, Any]:
        """The arguments that are the same for every call, known once the long-lived ones are built."""
        return {i.parameter: self._constant(i) for i in inject if not self.is_short(i)}

    def short(self, inject: Iterable[Injection]) -> list[Injection]:
        """The injections that are built anew for a request or an element."""
        return [i for i in inject if self.is_short(i)]

    def is_short(self, injection: Injection) -> bool:
        if injection.kind == "primitive" or injection.key in self.replaced:
            return False
        return self.plans[injection.key].scope not in LONG_LIVED

    def _constant(self, injection: Injection) -> Any:
        if injection.kind == "primitive":
            return self.connections.handle(injection.key)
        return self.values[injection.key]


def _unfilled(factory: Callable[..., Any], filled: Collection[str]) -> str | None:
    """The first parameter that has to be given and is not."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return None  # a class in C
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = (p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind not in optional)
    return next((name for name in required if name not in filled), None)


async def enter(
    factory: Callable[..., Any], arguments: dict[str, Any], stack: contextlib.AsyncExitStack, *, threads: bool = False
) -> Any:
    """Call a factory of any form and give its value; its clean-up goes onto `stack`."""
    if inspect.isasyncgenfunction(factory):
        factory = contextlib.asynccontextmanager(factory)
    elif inspect.isgeneratorfunction(factory):
        factory = contextlib.contextmanager(factory)

    def call() -> tuple[Any, Any]:
        made = factory(**arguments)
        if is_manager(made, factory) and not hasattr(made, "__aenter__"):
            return made, made.__enter__()
        return None, made

    manager, value = await asyncio.to_thread(call) if threads else call()
    if manager is not None:
        stack.push(_leaving(manager))
        return value
    if inspect.isawaitable(value) and not isinstance(value, asyncio.Future):
        value = await value
    if is_manager(value, factory) and hasattr(value, "__aenter__"):
        manager, value = value, await value.__aenter__()
        stack.push_async_exit(_leaving_async(manager))
    return value


def _leaving(manager: Any) -> Callable[..., None]:
    """A clean-up sees the failure that it comes after, and cannot hide it."""

    def leave(*failure: Any) -> None:
        manager.__exit__(*failure)

    return leave


def _leaving_async(manager: Any) -> Callable[..., Awaitable[None]]:
    async def leave(*failure: Any) -> None:
        await manager.__aexit__(*failure)

    return leave


def is_manager(made: Any, factory: Any) -> bool:
    """A generator's context manager, or an object of a class that was named as the factory and is one."""
    if isinstance(made, contextlib._GeneratorContextManager | contextlib._AsyncGeneratorContextManager):
        return True
    return isinstance(factory, type) and hasattr(made, "__exit__" if hasattr(made, "__enter__") else "__aexit__")
