"""A database on AWS: PostgreSQL in RDS."""

from typing import Any

from buildflow.ir.graph import Resource
from buildflow.primitives.base import Grant, Role, Sink
from buildflow.providers.aws import AwsSession
from buildflow.providers.names import RDS_INSTANCE


class RDSDatabaseDriver:
    """`database` on AWS; a `CloudDriver`."""

    label = "RDSDatabase"
    outputs = ("name", "host", "port", "user", "arn", "secret_arn")

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        return spec.name or RDS_INSTANCE.physical(project, stack, key)

    def identify(self, resource: Resource, settings: Any) -> str:
        return f"rds://{resource.name}"

    def check_name(self, name: str) -> str:
        return RDS_INSTANCE.refuses(name)

    def declare(self, resource: Resource, program: Any) -> Any:
        from buildflow.primitives.database.aws_resources import RDSDatabase

        return RDSDatabase(resource, program)

    def grants(self, resource: Resource, role: Role) -> tuple[Grant, ...]:
        """Its password. What its user may do inside is PostgreSQL's affair."""
        return (Grant(resource.key, ("secretsmanager:GetSecretValue",), on="secret_arn"),)

    def content(self, resource: Resource, session: AwsSession) -> str:
        """It may not be reachable from here, so whatever is in it."""
        return "all that it holds"

    def sink(self, resource: Resource, session: AwsSession) -> Sink:
        from buildflow.primitives.database.rds import database_sink

        return database_sink(resource, session)

    def handle(self, resource: Resource, session: AwsSession) -> Any:
        from buildflow.primitives.database.rds import database_handle

        return database_handle(resource, session)


DRIVER = RDSDatabaseDriver()
