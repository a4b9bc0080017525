"""A table on AWS: DuckDB, in the stack's own file, in one that all processes reach, or in MotherDuck."""

from typing import Any

from buildflow.ir.graph import Resource
from buildflow.primitives.base import Action, Change
from buildflow.primitives.table.duckdb_table import DuckDBSink, DuckDBTable
from buildflow.primitives.table.local import DuckDBTableDriver
from buildflow.primitives.table.motherduck_table import MotherDuckTableDriver
from buildflow.providers.names import DUCKDB_TABLE

FILES = DuckDBTableDriver()
MOTHERDUCK = MotherDuckTableDriver()


class AwsTableDriver(DuckDBTableDriver):
    """`table` on AWS; a `LocalDriver`, since AWS knows nothing of it. In a database that other stacks may use, a
    table's name bears project and stack."""

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        shared = spec.aws.database is not None
        return str(spec.name or (DUCKDB_TABLE.physical(project, stack, key) if shared else key))

    def identify(self, resource: Resource, settings: Any) -> str:
        return FILES.identify(_as_local(resource), settings)

    def create(self, resource: Resource, session: Any) -> dict[str, Any]:
        return _driver(resource).create(_as_local(resource), session)

    def exists(self, resource: Resource, session: Any) -> bool:
        return _driver(resource).exists(_as_local(resource), session)

    def compare(self, old: Resource, new: Resource, session: Any) -> Change:
        change = FILES.compare(_as_local(old), _as_local(new), session)
        fields = tuple(field.replace("local.database:", "aws.database:", 1) for field in change.fields)
        return Change(change.action, fields, change.loses_data)

    def update(self, old: Resource, new: Resource, session: Any) -> dict[str, Any]:
        if self.compare(old, new, session).action is Action.REPLACE:
            self.delete(old, session)
            return self.create(new, session)
        return _driver(new).update(_as_local(old), _as_local(new), session)

    def content(self, resource: Resource, session: Any) -> str:
        return _driver(resource).content(_as_local(resource), session)

    def delete(self, resource: Resource, session: Any) -> None:
        _driver(resource).delete(_as_local(resource), session)

    def sink(self, resource: Resource, session: Any) -> DuckDBSink:
        return _driver(resource).sink(_as_local(resource), session)

    def handle(self, resource: Resource, session: Any) -> DuckDBTable:
        return _driver(resource).handle(_as_local(resource), session)


def _database(resource: Resource) -> str | None:
    return (resource.spec.get("aws") or {}).get("database")


def _driver(resource: Resource) -> DuckDBTableDriver:
    return MOTHERDUCK if (_database(resource) or "").startswith("md:") else FILES


def _as_local(resource: Resource) -> Resource:
    """The same table, declared for the local provider."""
    return resource.model_copy(update={"spec": {**resource.spec, "local": {"database": _database(resource)}}})


DRIVER = AwsTableDriver()
