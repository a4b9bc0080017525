"""Secrets Manager: secrets and their versions."""

from typing import Any

from pulumi_cli.problems import NotThere
from pulumi_cli.providers.aws import tag_changes, tag_list, tags_of
from pulumi_cli.providers.handler import Handler
from pulumi_cli.providers.s3 import asked
from pulumi_cli.values import Properties

ABSENT = {"ResourceNotFoundException"}


class SecretsManagerHandler(Handler):
    def client(self, cloud: Any, known: Properties) -> Any:
        return cloud.client("secretsmanager", known.get("region"))


class Secret(SecretsManagerHandler):
    token = "aws:secretsmanager/secret:Secret"
    noun = "Secrets Manager Secret"
    named = "name"
    optional = ("name", "description", "kmsKeyId", "recoveryWindowInDays", "forceOverwriteReplicaSecret", "tags")
    defaults = {"recoveryWindowInDays": 30, "forceOverwriteReplicaSecret": False}
    replace_on = ("name",)

    def create(self, cloud: Any, inputs: Properties) -> str:
        more = {"Description": inputs.get("description"), "KmsKeyId": inputs.get("kmsKeyId")}
        answer = self.client(cloud, inputs).create_secret(
            Name=inputs["name"],
            Tags=tag_list(inputs.get("tags")),
            **{key: value for key, value in more.items() if value},
        )
        return str(answer["ARN"])

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        found = asked(lambda: self.client(cloud, known).describe_secret(SecretId=id), ABSENT)
        if found is None or found.get("DeletedDate"):
            return None
        tags = tags_of(found.get("Tags"))
        more = {"description": found.get("Description"), "kmsKeyId": found.get("KmsKeyId")}
        return {
            "name": found["Name"],
            "arn": id,
            "region": id.split(":")[3],
            "tags": tags,
            "tagsAll": tags,
            **{key: value for key, value in more.items() if value},
        }

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        client = self.client(cloud, new)
        names = {"description": "Description", "kmsKeyId": "KmsKeyId"}
        changed = {name: new.get(key, "") for key, name in names.items() if old.get(key) != new.get(key)}
        if changed:
            client.update_secret(SecretId=id, **changed)
        added, removed = tag_changes(old, new)
        if added:
            client.tag_resource(SecretId=id, Tags=tag_list(added))
        if removed:
            client.untag_resource(SecretId=id, TagKeys=removed)

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        days = known.get("recoveryWindowInDays")
        how = {"RecoveryWindowInDays": days} if days else {"ForceDeleteWithoutRecovery": True}
        asked(lambda: self.client(cloud, known).delete_secret(SecretId=id, **how), ABSENT)


class SecretVersion(SecretsManagerHandler):
    token = "aws:secretsmanager/secretVersion:SecretVersion"
    noun = "Secrets Manager Secret Version"
    required = ("secretId",)
    optional = ("secretString", "secretBinary", "versionStages")
    replace_on = ("secretId", "secretString", "secretBinary")

    def create(self, cloud: Any, inputs: Properties) -> str:
        names = {"secretString": "SecretString", "secretBinary": "SecretBinary", "versionStages": "VersionStages"}
        given = {name: inputs[key] for key, name in names.items() if key in inputs}
        answer = self.client(cloud, inputs).put_secret_value(SecretId=inputs["secretId"], **given)
        return f"{inputs['secretId']}|{answer['VersionId']}"

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        secret, version = id.split("|")
        ask = self.client(cloud, known).get_secret_value
        found = asked(lambda: ask(SecretId=secret, VersionId=version), {*ABSENT, "InvalidRequestException"})
        if found is None:
            return None
        value = {"secretString": found["SecretString"]} if "SecretString" in found else {}
        return {
            **value,
            "secretId": secret,
            "secretArn": found["ARN"],
            "arn": found["ARN"],
            "versionId": version,
            "versionStages": found["VersionStages"],
            "region": found["ARN"].split(":")[3],
        }

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        """A version goes with its secret, or when a newer one has taken its stage."""


def get_secret(cloud: Any, args: Properties) -> Properties:
    wanted = args.get("arn") or args.get("name") or ""
    found = asked(lambda: cloud.client("secretsmanager", args.get("region")).describe_secret(SecretId=wanted), ABSENT)
    if found is None:
        raise NotThere(f"reading Secrets Manager Secret ({wanted}): couldn't find resource")
    return {"id": found["ARN"], **(Secret().read(cloud, found["ARN"], args) or {})}


def get_secret_version(cloud: Any, args: Properties) -> Properties:
    client = cloud.client("secretsmanager", args.get("region"))
    stage = args.get("versionStage", "AWSCURRENT")
    found = asked(lambda: client.get_secret_value(SecretId=args["secretId"], VersionStage=stage), ABSENT)
    if found is None:
        raise NotThere(f"reading Secrets Manager Secret Version ({args['secretId']}|{stage}): couldn't find resource")
    version = SecretVersion().read(cloud, f"{found['ARN']}|{found['VersionId']}", args) or {}
    return {"id": f"{args['secretId']}|{stage}", **version, "versionStage": stage}


HANDLERS: tuple[Handler, ...] = (Secret(), SecretVersion())
FUNCTIONS = {
    "aws:secretsmanager/getSecret:getSecret": get_secret,
    "aws:secretsmanager/getSecretVersion:getSecretVersion": get_secret_version,
}
