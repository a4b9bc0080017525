"""What a database is made of on AWS: an RDS instance in its own network, and a secret that says how to sign in."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pulumi

from buildflow.errors import ResourceFailed
from buildflow.primitives.aws_component import AwsComponent
from buildflow.primitives.database.aws import database_of, user_of
from buildflow.providers.secrets import cloud_sdk

ec2, rds, secretsmanager = (cloud_sdk(f"pulumi_aws.{name}", "aws") for name in ("ec2", "rds", "secretsmanager"))
random = cloud_sdk("pulumi_random", "aws")

PORT = 5432
SMALLEST = "db.t4g.micro"
_LEAST_STORAGE = 20
"""RDS gives no disk below 20 GB. Source: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Storage.html"""
_BACKUPS_KEPT = 7
"""Days."""


class RDSDatabase(AwsComponent):
    """A server with one database, or one more database on another's server; its sign-in in Secrets Manager."""

    def create(self) -> Mapping[str, Any]:
        if "instance" in self._resource.references:
            return self._shared(self._program.component(self._resource.references["instance"]))
        user, database = user_of(self._resource), database_of(self._resource)
        password = self._password()
        server = self._server(user, database, password)
        secret = self.child(
            secretsmanager.Secret,
            name=self._resource.name,
            description=f"How to sign in to {self._resource.id}",
            recovery_window_in_days=0,  # else its name is taken for a month after it is deleted
            tags=self.tags,
        )
        sign_in = {
            "username": user,
            "password": password,
            "host": server.address,
            "port": server.port,
            "dbname": database,
        }
        self.child(
            secretsmanager.SecretVersion,
            secret_id=secret.id,
            secret_string=pulumi.Output.secret(pulumi.Output.json_dumps(sign_in)),
        )
        return {
            "name": database,
            "host": server.address,
            "port": server.port,
            "user": user,
            "arn": server.arn,
            "secret_arn": secret.arn,
        }

    def find(self) -> Mapping[str, Any]:
        found = self._program.look_up(self._resource, rds.get_instance, db_instance_identifier=self._resource.name)
        secrets = [secret.secret_arn for secret in found.master_user_secrets or ()]
        return {
            "name": found.db_name or database_of(self._resource),
            "host": found.address,
            "port": found.port,
            "user": self._spec["user"] or found.master_username,
            "arn": found.db_instance_arn,
            "secret_arn": secrets[0] if secrets else "",
        }

    def _shared(self, other: Any) -> Mapping[str, Any]:
        """Another's server and sign-in; whoever connects first makes the database."""
        return {**other.outputs, "name": database_of(self._resource)}

    def _server(self, user: str, database: str, password: Any) -> Any:
        spec, name = self._spec, self._resource.name
        subnets, group = self._network()
        protected = spec["deletion_protection"] is not False
        kept = {
            "identifier": name,
            "database": database,
            "user": user,
            "region": self._program.region_of(self._resource),
        }
        snapshot = self.child(
            random.RandomString,
            suffix="-snapshot",
            length=8,
            special=False,
            upper=False,
            keepers={what: value or "" for what, value in kept.items()},  # another server, another last snapshot
        )
        return self.child(
            rds.Instance,
            identifier=name,
            engine="postgres",
            engine_version=spec["version"],
            instance_class=spec["tier"] or SMALLEST,
            allocated_storage=max(_LEAST_STORAGE, math.ceil(spec["storage"] / 1e9)),
            storage_type="gp3",
            storage_encrypted=True,
            db_name=database,
            username=user,
            password=password,
            port=PORT,
            db_subnet_group_name=subnets.name,
            vpc_security_group_ids=[group.id],
            publicly_accessible=spec["public"],
            multi_az=spec["aws"]["multi_az"],
            backup_retention_period=_BACKUPS_KEPT,
            copy_tags_to_snapshot=True,
            deletion_protection=protected,
            skip_final_snapshot=not spec["aws"]["final_snapshot"],
            final_snapshot_identifier=snapshot.result.apply(lambda end: f"{name}-final-{end}"),
            allow_major_version_upgrade=True,  # the file names the version
            apply_immediately=True,  # `apply` is done when it is
            tags=self.tags,
            options={"protect": protected},
        )

    def _network(self) -> tuple[Any, Any]:
        """The subnets that it stands in, and who may reach it there: its own network, or everybody."""
        subnets, network = self._place()
        group = self.child(
            rds.SubnetGroup,
            name=self._resource.name,
            description=f"Where {self._resource.id} stands",
            subnet_ids=subnets,
            tags=self.tags,
        )
        reached_from = "0.0.0.0/0" if self._spec["public"] else network.cidr_block
        wall = self.child(
            ec2.SecurityGroup,
            name=self._resource.name,
            description=f"Who may reach {self._resource.id}",
            vpc_id=network.id,
            ingress=[{"protocol": "tcp", "from_port": PORT, "to_port": PORT, "cidr_blocks": [reached_from]}],
            tags=self.tags,
        )
        return group, wall

    def _place(self) -> tuple[list[str], Any]:
        """Subnets, and the network that they are in."""
        chosen = self._spec["aws"]["subnets"]
        if chosen:
            subnet = self._look_up(ec2.get_subnet, f"there is no subnet {chosen[0]}", id=chosen[0])
            return chosen, self._look_up(ec2.get_vpc, f"there is no network {subnet.vpc_id}", id=subnet.vpc_id)
        network = self._look_up(ec2.get_vpc, "the region has no default network", default=True)
        inside = [{"name": "vpc-id", "values": [network.id]}]
        found = self._look_up(ec2.get_subnets, "the default network has no subnets", filters=inside)
        return sorted(found.ids), network

    def _look_up(self, function: Callable[..., Any], missing: str, **arguments: Any) -> Any:
        words = f'"{self._resource.key}" has no place: {missing}'
        error = ResourceFailed(words, hint="name those that it is to stand in: `aws: {subnets: [...]}`")
        return self._program.look_up(self._resource, function, missing=error, **arguments)

    def _password(self) -> Any:
        """The one that the file refers to, else a generated one, which Pulumi's state keeps encrypted."""
        if self._spec["password"]:
            return self._program.secret(self._spec["password"])
        made = self.child(random.RandomPassword, length=32, special=False)
        return made.result
