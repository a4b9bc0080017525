"""RDS: database instances, their subnet and parameter groups."""

from typing import Any

from pulumi_cli.problems import NotThere, ProviderFailed
from pulumi_cli.providers.aws import tag_changes, tag_list, tags_of
from pulumi_cli.providers.handler import Handler
from pulumi_cli.providers.s3 import asked
from pulumi_cli.values import Properties

ABSENT = {"DBInstanceNotFound", "DBInstanceNotFoundFault", "DBSubnetGroupNotFoundFault", "DBParameterGroupNotFound"}
CREATED = {  # taken when an instance is created
    "allocatedStorage": "AllocatedStorage",
    "autoMinorVersionUpgrade": "AutoMinorVersionUpgrade",
    "availabilityZone": "AvailabilityZone",
    "backupRetentionPeriod": "BackupRetentionPeriod",
    "backupWindow": "PreferredBackupWindow",
    "caCertIdentifier": "CACertificateIdentifier",
    "copyTagsToSnapshot": "CopyTagsToSnapshot",
    "dbName": "DBName",
    "dbSubnetGroupName": "DBSubnetGroupName",
    "deletionProtection": "DeletionProtection",
    "enabledCloudwatchLogsExports": "EnableCloudwatchLogsExports",
    "engine": "Engine",
    "engineVersion": "EngineVersion",
    "iamDatabaseAuthenticationEnabled": "EnableIAMDatabaseAuthentication",
    "instanceClass": "DBInstanceClass",
    "iops": "Iops",
    "kmsKeyId": "KmsKeyId",
    "maintenanceWindow": "PreferredMaintenanceWindow",
    "manageMasterUserPassword": "ManageMasterUserPassword",
    "maxAllocatedStorage": "MaxAllocatedStorage",
    "monitoringInterval": "MonitoringInterval",
    "monitoringRoleArn": "MonitoringRoleArn",
    "multiAz": "MultiAZ",
    "networkType": "NetworkType",
    "parameterGroupName": "DBParameterGroupName",
    "password": "MasterUserPassword",
    "passwordWo": "MasterUserPassword",
    "performanceInsightsEnabled": "EnablePerformanceInsights",
    "performanceInsightsRetentionPeriod": "PerformanceInsightsRetentionPeriod",
    "port": "Port",
    "publiclyAccessible": "PubliclyAccessible",
    "storageEncrypted": "StorageEncrypted",
    "storageThroughput": "StorageThroughput",
    "storageType": "StorageType",
    "username": "MasterUsername",
    "vpcSecurityGroupIds": "VpcSecurityGroupIds",
}
OURS = ("applyImmediately", "allowMajorVersionUpgrade", "deleteAutomatedBackups", "finalSnapshotIdentifier")
FIXED = ("availabilityZone", "dbName", "engine", "kmsKeyId", "storageEncrypted", "username")
READ = {  # what DescribeDBInstances says in the same words
    "allocatedStorage": "AllocatedStorage",
    "autoMinorVersionUpgrade": "AutoMinorVersionUpgrade",
    "backupRetentionPeriod": "BackupRetentionPeriod",
    "copyTagsToSnapshot": "CopyTagsToSnapshot",
    "dbName": "DBName",
    "deletionProtection": "DeletionProtection",
    "engine": "Engine",
    "engineVersion": "EngineVersion",
    "iamDatabaseAuthenticationEnabled": "IAMDatabaseAuthenticationEnabled",
    "instanceClass": "DBInstanceClass",
    "maxAllocatedStorage": "MaxAllocatedStorage",
    "multiAz": "MultiAZ",
    "port": "DbInstancePort",
    "publiclyAccessible": "PubliclyAccessible",
    "storageEncrypted": "StorageEncrypted",
    "storageType": "StorageType",
    "username": "MasterUsername",
}


class RdsHandler(Handler):
    def client(self, cloud: Any, known: Properties) -> Any:
        return cloud.client("rds", known.get("region"))


class Instance(RdsHandler):
    """Its id is its identifier; the real provider's is the resource id, of which moto has one for all."""

    token = "aws:rds/instance:Instance"
    noun = "RDS DB Instance"
    named = "identifier"
    required = ("instanceClass",)
    optional = ("identifier", *CREATED, *OURS, "passwordWoVersion", "skipFinalSnapshot", "tags")
    defaults = {
        "autoMinorVersionUpgrade": True,
        "copyTagsToSnapshot": False,
        "deleteAutomatedBackups": True,
        "monitoringInterval": 0,
        "publiclyAccessible": False,
        "skipFinalSnapshot": False,
    }
    replace_on = FIXED

    def create(self, cloud: Any, inputs: Properties) -> str:
        wanted = {name: inputs[key] for key, name in CREATED.items() if key in inputs}
        self.client(cloud, inputs).create_db_instance(
            DBInstanceIdentifier=inputs["identifier"], Tags=tag_list(inputs.get("tags")), **wanted
        )
        return str(inputs["identifier"])

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        client = self.client(cloud, known)
        answer = asked(lambda: client.describe_db_instances(DBInstanceIdentifier=id), ABSENT)
        if not answer or not answer["DBInstances"]:
            return None
        found = answer["DBInstances"][0]
        given = {key: found[name] for key, name in READ.items() if found.get(name) is not None and key in known}
        endpoint = found.get("Endpoint", {})
        tags = tags_of(found.get("TagList"))
        groups = sorted(group["VpcSecurityGroupId"] for group in found.get("VpcSecurityGroups", ()))
        secret = found.get("MasterUserSecret")
        return {
            **given,
            **({"vpcSecurityGroupIds": groups} if "vpcSecurityGroupIds" in known else {}),
            "identifier": id,
            "port": endpoint.get("Port", known.get("port")),
            "address": endpoint.get("Address", ""),
            "endpoint": f"{endpoint.get('Address', '')}:{endpoint.get('Port', '')}",
            "arn": found["DBInstanceArn"],
            "resourceId": found.get("DbiResourceId", ""),
            "status": found["DBInstanceStatus"],
            "engineVersionActual": found.get("EngineVersion", ""),
            "hostedZoneId": "Z2R2ITUGPM61AM",
            "masterUserSecrets": [_secret(secret)] if secret else [],
            "region": found["DBInstanceArn"].split(":")[3],
            "tags": tags,
            "tagsAll": tags,
        }

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        client = self.client(cloud, new)
        names = {key: name for key, name in CREATED.items() if key not in (*FIXED, "port")}
        changed = {name: new[key] for key, name in names.items() if key in new and old.get(key) != new[key]}
        if "port" in new and old.get("port") != new["port"]:
            changed["DBPortNumber"] = new["port"]
        if changed:
            client.modify_db_instance(
                DBInstanceIdentifier=id, ApplyImmediately=bool(new.get("applyImmediately")), **changed
            )
        _tag(client, str(old.get("arn") or _arn(cloud, new, "db", id)), old, new)

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        if known.get("deletionProtection"):
            raise ProviderFailed(
                "operation error RDS: DeleteDBInstance, https response error StatusCode: 400, RequestID: , api error "
                "InvalidParameterCombination: Cannot delete protected DB Instance, please disable deletion protection "
                "and try again."
            )
        snapshot = known.get("finalSnapshotIdentifier")
        if not known.get("skipFinalSnapshot") and not snapshot:
            raise ProviderFailed("final_snapshot_identifier is required when skip_final_snapshot is false")
        how = {} if known.get("skipFinalSnapshot") else {"FinalDBSnapshotIdentifier": snapshot}
        client = self.client(cloud, known)
        skip = bool(known.get("skipFinalSnapshot"))
        asked(lambda: client.delete_db_instance(DBInstanceIdentifier=id, SkipFinalSnapshot=skip, **how), ABSENT)


def _secret(found: Any) -> Properties:
    return {
        "secretArn": found["SecretArn"],
        "secretStatus": found["SecretStatus"],
        "kmsKeyId": found.get("KmsKeyId", ""),
    }


def _arn(cloud: Any, known: Properties, kind: str, name: str) -> str:
    return f"arn:{cloud.partition}:rds:{known.get('region', cloud.region)}:{cloud.account}:{kind}:{name}"


def _tag(client: Any, arn: str, old: Properties, new: Properties) -> None:
    added, removed = tag_changes(old, new)
    if added:
        client.add_tags_to_resource(ResourceName=arn, Tags=tag_list(added))
    if removed:
        client.remove_tags_from_resource(ResourceName=arn, TagKeys=removed)


class SubnetGroup(RdsHandler):
    token = "aws:rds/subnetGroup:SubnetGroup"
    noun = "RDS DB Subnet Group"
    named = "name"
    required = ("subnetIds",)
    optional = ("name", "description", "tags")
    defaults = {"description": "Managed by Pulumi"}
    replace_on = ("name",)

    def create(self, cloud: Any, inputs: Properties) -> str:
        self.client(cloud, inputs).create_db_subnet_group(
            DBSubnetGroupName=inputs["name"],
            DBSubnetGroupDescription=inputs["description"],
            SubnetIds=inputs["subnetIds"],
            Tags=tag_list(inputs.get("tags")),
        )
        return str(inputs["name"])

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        client = self.client(cloud, known)
        answer = asked(lambda: client.describe_db_subnet_groups(DBSubnetGroupName=id), ABSENT)
        if not answer or not answer["DBSubnetGroups"]:
            return None
        found = answer["DBSubnetGroups"][0]
        arn = found.get("DBSubnetGroupArn") or _arn(cloud, known, "subgrp", id)
        tags = tags_of(client.list_tags_for_resource(ResourceName=arn).get("TagList"))
        return {
            "name": id,
            "description": found["DBSubnetGroupDescription"],
            "subnetIds": sorted(subnet["SubnetIdentifier"] for subnet in found["Subnets"]),
            "vpcId": found["VpcId"],
            "arn": arn,
            "region": arn.split(":")[3],
            "tags": tags,
            "tagsAll": tags,
        }

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        client = self.client(cloud, new)
        client.modify_db_subnet_group(
            DBSubnetGroupName=id, DBSubnetGroupDescription=new["description"], SubnetIds=new["subnetIds"]
        )
        _tag(client, _arn(cloud, new, "subgrp", id), old, new)

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        asked(lambda: self.client(cloud, known).delete_db_subnet_group(DBSubnetGroupName=id), ABSENT)


class ParameterGroup(RdsHandler):
    """Its parameters are taken as given: moto does not say them."""

    token = "aws:rds/parameterGroup:ParameterGroup"
    noun = "RDS DB Parameter Group"
    named = "name"
    required = ("family",)
    optional = ("name", "description", "parameters", "skipDestroy", "tags")
    defaults = {"description": "Managed by Pulumi"}
    replace_on = ("name", "family", "description")

    def create(self, cloud: Any, inputs: Properties) -> str:
        self.client(cloud, inputs).create_db_parameter_group(
            DBParameterGroupName=inputs["name"],
            DBParameterGroupFamily=inputs["family"],
            Description=inputs["description"],
            Tags=tag_list(inputs.get("tags")),
        )
        self._set(cloud, inputs["name"], inputs)
        return str(inputs["name"])

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        client = self.client(cloud, known)
        answer = asked(lambda: client.describe_db_parameter_groups(DBParameterGroupName=id), ABSENT)
        if not answer or not answer["DBParameterGroups"]:
            return None
        found = answer["DBParameterGroups"][0]
        return {
            "name": id,
            "family": found["DBParameterGroupFamily"],
            "description": found["Description"],
            "arn": _arn(cloud, known, "pg", id),
            "region": known.get("region", cloud.region),
            "tags": known.get("tags") or {},
        }

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        self._set(cloud, id, new)

    def _set(self, cloud: Any, name: str, inputs: Properties) -> None:
        wanted = [
            {
                "ParameterName": item["name"],
                "ParameterValue": item["value"],
                "ApplyMethod": item.get("applyMethod", "immediate"),
            }
            for item in inputs.get("parameters", ())
        ]
        if wanted:
            self.client(cloud, inputs).modify_db_parameter_group(DBParameterGroupName=name, Parameters=wanted)

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        asked(lambda: self.client(cloud, known).delete_db_parameter_group(DBParameterGroupName=id), ABSENT)


def get_instance(cloud: Any, args: Properties) -> Properties:
    name = args.get("dbInstanceIdentifier", "")
    found = Instance().read(cloud, name, {**dict.fromkeys(READ), "vpcSecurityGroupIds": [], **args})
    if found is None:
        raise NotThere("reading RDS DB Instance: no matching RDS DB Instance found")
    names = {
        "dbInstanceArn": "arn",
        "dbInstanceClass": "instanceClass",
        "dbInstancePort": "port",
        "masterUsername": "username",
        "vpcSecurityGroups": "vpcSecurityGroupIds",
    }
    return {
        **found,
        "id": name,
        "dbInstanceIdentifier": name,
        **{key: found[value] for key, value in names.items() if value in found},
    }


HANDLERS: tuple[Handler, ...] = (Instance(), SubnetGroup(), ParameterGroup())
FUNCTIONS = {"aws:rds/getInstance:getInstance": get_instance}
