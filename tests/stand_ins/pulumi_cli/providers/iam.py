"""IAM: roles, managed and inline policies."""

import json
from typing import Any
from urllib.parse import unquote

from pulumi_cli.problems import ProviderFailed
from pulumi_cli.providers.aws import tag_changes, tag_list, tags_of
from pulumi_cli.providers.handler import Handler
from pulumi_cli.providers.s3 import asked
from pulumi_cli.values import Properties

ABSENT = {"NoSuchEntity"}
INLINE, MANAGED, ATTACHED = 10_240, 6_144, 10
"""What AWS takes and moto does not ask: the characters of a role's own policies, those of one apart from it, and how
many of these a role has. Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""


class IamHandler(Handler):
    regional = False

    def client(self, cloud: Any) -> Any:
        return cloud.client("iam")


class Role(IamHandler):
    token = "aws:iam/role:Role"
    noun = "IAM Role"
    named = "name"
    required = ("assumeRolePolicy",)
    optional = (
        "name",
        "path",
        "description",
        "maxSessionDuration",
        "permissionsBoundary",
        "forceDetachPolicies",
        "tags",
    )
    defaults = {"path": "/", "maxSessionDuration": 3600, "forceDetachPolicies": False}
    replace_on = ("name", "path")
    documents = ("assumeRolePolicy",)

    def create(self, cloud: Any, inputs: Properties) -> str:
        more = {"Description": inputs.get("description"), "PermissionsBoundary": inputs.get("permissionsBoundary")}
        self.client(cloud).create_role(
            RoleName=inputs["name"],
            Path=inputs["path"],
            AssumeRolePolicyDocument=inputs["assumeRolePolicy"],
            MaxSessionDuration=inputs["maxSessionDuration"],
            Tags=tag_list(inputs.get("tags")),
            **{key: value for key, value in more.items() if value},
        )
        return str(inputs["name"])

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        answer = asked(lambda: self.client(cloud).get_role(RoleName=id), ABSENT)
        if answer is None:
            return None
        found = answer["Role"]
        tags = tags_of(found.get("Tags"))
        boundary = found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
        more = {"description": found.get("Description"), "permissionsBoundary": boundary}
        return {
            "name": id,
            "path": found["Path"],
            "assumeRolePolicy": _document(found["AssumeRolePolicyDocument"]),
            "maxSessionDuration": found["MaxSessionDuration"],
            "arn": found["Arn"],
            "uniqueId": found["RoleId"],
            "createDate": found["CreateDate"].isoformat(),
            "tags": tags,
            "tagsAll": tags,
            **{key: value for key, value in more.items() if value},
        }

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        client = self.client(cloud)
        if old.get("assumeRolePolicy") != new["assumeRolePolicy"]:
            client.update_assume_role_policy(RoleName=id, PolicyDocument=new["assumeRolePolicy"])
        about = ("description", "maxSessionDuration")
        if any(old.get(key) != new.get(key) for key in about):
            client.update_role(
                RoleName=id, Description=new.get("description", ""), MaxSessionDuration=new["maxSessionDuration"]
            )
        if old.get("permissionsBoundary") != new.get("permissionsBoundary"):
            if new.get("permissionsBoundary"):
                client.put_role_permissions_boundary(RoleName=id, PermissionsBoundary=new["permissionsBoundary"])
            else:
                client.delete_role_permissions_boundary(RoleName=id)
        added, removed = tag_changes(old, new)
        if added:
            client.tag_role(RoleName=id, Tags=tag_list(added))
        if removed:
            client.untag_role(RoleName=id, TagKeys=removed)

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        client = self.client(cloud)
        if known.get("forceDetachPolicies"):
            for policy in client.list_attached_role_policies(RoleName=id)["AttachedPolicies"]:
                client.detach_role_policy(RoleName=id, PolicyArn=policy["PolicyArn"])
            for name in client.list_role_policies(RoleName=id)["PolicyNames"]:
                client.delete_role_policy(RoleName=id, PolicyName=name)
        asked(lambda: client.delete_role(RoleName=id), ABSENT)


def _document(given: Any) -> str:
    """boto3 reads policy documents, moto may give them quoted."""
    return unquote(given) if isinstance(given, str) else json.dumps(given)


class RolePolicy(IamHandler):
    token = "aws:iam/rolePolicy:RolePolicy"
    noun = "IAM Role Policy"
    named = "name"
    required = ("role", "policy")
    optional = ("name",)
    replace_on = ("name", "role")
    documents = ("policy",)

    def create(self, cloud: Any, inputs: Properties) -> str:
        self.update(cloud, "", {}, inputs)
        return f"{inputs['role']}:{inputs['name']}"

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        role, name = id.split(":", 1)
        found = asked(lambda: self.client(cloud).get_role_policy(RoleName=role, PolicyName=name), ABSENT)
        return {"role": role, "name": name, "policy": _document(found["PolicyDocument"])} if found else None

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        _limited(_size(new["policy"]), INLINE, f"Maximum policy size of {INLINE} bytes exceeded for role {new['role']}")
        self.client(cloud).put_role_policy(RoleName=new["role"], PolicyName=new["name"], PolicyDocument=new["policy"])

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        role, name = id.split(":", 1)
        asked(lambda: self.client(cloud).delete_role_policy(RoleName=role, PolicyName=name), ABSENT)


class Policy(IamHandler):
    token = "aws:iam/policy:Policy"
    noun = "IAM Policy"
    named = "name"
    required = ("policy",)
    optional = ("name", "path", "description", "tags")
    defaults = {"path": "/"}
    replace_on = ("name", "path", "description")
    documents = ("policy",)

    def create(self, cloud: Any, inputs: Properties) -> str:
        _limited(_size(inputs["policy"]), MANAGED, f"Cannot exceed quota for PolicySize: {MANAGED}")
        answer = self.client(cloud).create_policy(
            PolicyName=inputs["name"],
            Path=inputs["path"],
            PolicyDocument=inputs["policy"],
            Description=inputs.get("description", ""),
            Tags=tag_list(inputs.get("tags")),
        )
        return str(answer["Policy"]["Arn"])

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        client = self.client(cloud)
        answer = asked(lambda: client.get_policy(PolicyArn=id), ABSENT)
        if answer is None:
            return None
        found = answer["Policy"]
        version = client.get_policy_version(PolicyArn=id, VersionId=found["DefaultVersionId"])["PolicyVersion"]
        tags = tags_of(found.get("Tags"))
        return {
            "name": found["PolicyName"],
            "path": found["Path"],
            "policy": _document(version["Document"]),
            "arn": id,
            "policyId": found["PolicyId"],
            "attachmentCount": found["AttachmentCount"],
            "tags": tags,
            "tagsAll": tags,
            **({"description": found["Description"]} if found.get("Description") else {}),
        }

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        client = self.client(cloud)
        if old.get("policy") != new["policy"]:
            _limited(_size(new["policy"]), MANAGED, f"Cannot exceed quota for PolicySize: {MANAGED}")
            versions = client.list_policy_versions(PolicyArn=id)["Versions"]
            if len(versions) >= 5:  # AWS keeps no more
                oldest = next(version for version in reversed(versions) if not version["IsDefaultVersion"])
                client.delete_policy_version(PolicyArn=id, VersionId=oldest["VersionId"])
            client.create_policy_version(PolicyArn=id, PolicyDocument=new["policy"], SetAsDefault=True)
        added, removed = tag_changes(old, new)
        if added:
            client.tag_policy(PolicyArn=id, Tags=tag_list(added))
        if removed:
            client.untag_policy(PolicyArn=id, TagKeys=removed)

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        client = self.client(cloud)
        for version in client.list_policy_versions(PolicyArn=id)["Versions"]:
            if not version["IsDefaultVersion"]:
                client.delete_policy_version(PolicyArn=id, VersionId=version["VersionId"])
        asked(lambda: client.delete_policy(PolicyArn=id), ABSENT)


class RolePolicyAttachment(IamHandler):
    token = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
    noun = "IAM Role Policy Attachment"
    required = ("role", "policyArn")
    replace_on = ("role", "policyArn")

    def create(self, cloud: Any, inputs: Properties) -> str:
        attached = self.client(cloud).list_attached_role_policies(RoleName=inputs["role"])["AttachedPolicies"]
        _limited(len(attached) + 1, ATTACHED, f"Cannot exceed quota for PoliciesPerRole: {ATTACHED}")
        self.client(cloud).attach_role_policy(RoleName=inputs["role"], PolicyArn=inputs["policyArn"])
        return f"{inputs['role']}/{inputs['policyArn']}"

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        role, arn = id.split("/", 1)
        answer = asked(lambda: self.client(cloud).list_attached_role_policies(RoleName=role), ABSENT)
        attached = {policy["PolicyArn"] for policy in (answer or {}).get("AttachedPolicies", ())}
        return {"role": role, "policyArn": arn} if arn in attached else None

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        role, arn = id.split("/", 1)
        asked(lambda: self.client(cloud).detach_role_policy(RoleName=role, PolicyArn=arn), ABSENT)


def _size(document: str) -> int:
    """AWS counts no white space."""
    return len("".join(document.split()))


def _limited(found: int, most: int, refusal: str) -> None:
    if found > most:
        raise ProviderFailed(f"operation error IAM, https response error StatusCode: 409, LimitExceeded: {refusal}")


HANDLERS: tuple[Handler, ...] = (Role(), RolePolicy(), Policy(), RolePolicyAttachment())
FUNCTIONS: dict[str, Any] = {}
