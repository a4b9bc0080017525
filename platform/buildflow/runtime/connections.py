"""One process's way to its primitives: sources, sinks and handles, each made on first use."""

import importlib
import threading
from pathlib import Path
from typing import Any

from buildflow.errors import UnknownName
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.ir.runtime import RuntimePlan
from buildflow.primitives.base import Sink, Source
from buildflow.primitives.registry import driver
from buildflow.providers.secrets import open_secrets
from buildflow.spec.interpolation import resolve_references


class Connections:
    """Sessions by provider, and what their drivers connect to. Thread-safe; not to be carried over a fork."""

    def __init__(self, plan: RuntimePlan, root: Path) -> None:
        self.plan = plan
        self.root = root
        self.graph = ResourceGraph(project=plan.project, stack=plan.stack, resources=plan.resources)
        self.secrets = open_secrets(plan.secrets, root)
        self._sessions: dict[str, Any] = {}
        self._made: dict[tuple[str, str], Any] = {}
        self._lock = threading.RLock()

    def session(self, provider: str) -> Any:
        with self._lock:
            if provider not in self._sessions:
                module = importlib.import_module(f"buildflow.providers.{provider}")
                self._sessions[provider] = module.open_session(
                    self.graph,
                    root=self.root,
                    dir=Path(self.plan.dir),
                    state_url=self.resolve(self.plan.state_url),
                    settings=self.resolve(self.plan.settings.get(provider, {})),
                    secrets=self.secrets,
                )
            return self._sessions[provider]

    def state(self) -> Any:
        """The Redis that holds heartbeats, dead letters and leader locks: `state_url`, or the embedded one."""
        return self.session("local").redis()

    @property
    def namespace(self) -> str:
        return f"{self.plan.project}-{self.plan.stack}"

    def source(self, key: str) -> Source:
        source: Source = self._connect("source", key)
        return source

    def sink(self, key: str) -> Sink:
        sink: Sink = self._connect("sink", key)
        return sink

    def handle(self, key: str) -> Any:
        return self._connect("handle", key)

    def decoder(self, key: str) -> Any:
        """`body -> element` where the source's driver knows how; `None` where the handler's annotation does."""
        resource = self.plan.resource(key)
        decode = getattr(driver(resource.type, resource.provider), "decode", None)
        if decode is None:
            return None
        session = self.session(resource.provider)
        return lambda body: decode(body, resource, session)

    def _connect(self, role: str, key: str) -> Any:
        with self._lock:
            made = self._made.get((role, key))
            if made is None:
                resource = self._resource(key)
                connect = getattr(driver(resource.type, resource.provider), role)
                made = self._made[role, key] = connect(resource, self.session(resource.provider))
            return made

    def _resource(self, key: str) -> Resource:
        try:
            return self.plan.resource(key)
        except KeyError:
            raise UnknownName(f'there is no primitive "{key}" in stack "{self.plan.stack}"') from None

    def resolve(self, value: Any) -> Any:
        """A plan's value with its secrets and outputs put in."""
        return resolve_references(value, self._lookup)

    def _lookup(self, root: str, rest: str) -> Any:
        if root == "secret":
            return self.secrets.get(rest)
        key, _, output = rest.partition(".")
        outputs = self._resource(key).outputs
        if output not in outputs:
            known = ", ".join(sorted(outputs)) or "none"
            raise UnknownName(f'primitive "{key}" has no output "{output}"', hint=f"its outputs: {known}")
        return outputs[output]

    def close(self) -> None:
        with self._lock:
            for made in self._made.values():
                close = getattr(made, "close", None)
                if close:
                    close()
            self._made.clear()
            for session in self._sessions.values():
                session.close()
            self._sessions.clear()
