"""A database on AWS: PostgreSQL in RDS."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from buildflow.ir.graph import Resource
from buildflow.primitives.base import Grant, Refusal, Role, Sink
from buildflow.providers.aws import AwsSession
from buildflow.providers.names import RDS_INSTANCE

MOST_STORAGE = 65_536
"""GB. Source: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Storage.html"""


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

    def refuses(self, resource: Resource, referred: Mapping[str, Resource]) -> Iterator[Refusal]:
        """Source: https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBInstance.html"""
        if "instance" in referred:  # of the server, the other one decides
            return
        spec, subnets = resource.spec, resource.spec["aws"]["subnets"]
        if spec["storage"] > MOST_STORAGE * 1e9:
            yield Refusal(("storage",), f"RDS has no disk above {MOST_STORAGE:,} GB", "ask for a smaller one")
        if spec["tier"] and not re.fullmatch(r"db\.[a-z0-9-]+\.[a-z0-9-]+", spec["tier"]):
            yield Refusal(("tier",), f'"{spec["tier"]}" is no size of RDS', "such as db.t4g.micro or db.m7g.large")
        if len(set(subnets)) == 1:
            hint = "name another one of the same network, in another zone"
            yield Refusal(("aws", "subnets"), "RDS asks for two subnets, in different zones", hint)
        for number, subnet in enumerate(subnets):
            if not re.fullmatch(r"subnet-[0-9a-f]+", subnet):
                yield Refusal(("aws", "subnets", number), f'"{subnet}" is no id of a subnet', "such as subnet-0a1b2c3d")
        user = user_of(resource)
        if user.lower() in ("admin", "rdsadmin") or user.lower().startswith("pg_"):
            why = f'RDS keeps the user "{user}" for itself'
            yield Refusal(("user",) if spec["user"] else (), why, "give it another `user`")
        elif spec["user"] and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", user):
            hint = "letters, digits and underscores, a letter first, 63 at most"
            yield Refusal(("user",), f'RDS makes no user "{user}"', hint)

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


def database_of(resource: Resource) -> str:
    """The database's name inside its server."""
    return resource.name.replace("-", "_").lower()


def user_of(resource: Resource) -> str:
    return str(resource.spec["user"] or database_of(resource))


DRIVER = RDSDatabaseDriver()
