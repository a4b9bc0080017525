"""EC2: security groups and their rules; VPCs and subnets are only looked up."""

from typing import Any

from pulumi_cli.problems import NotThere
from pulumi_cli.providers.aws import tag_changes, tag_list, tags_of
from pulumi_cli.providers.handler import Handler
from pulumi_cli.providers.s3 import asked
from pulumi_cli.values import Properties

ABSENT = {"InvalidGroup.NotFound", "InvalidSecurityGroupRuleId.NotFound", "InvalidPermission.NotFound"}
DESCRIPTION = "Managed by Pulumi"


class Ec2Handler(Handler):
    def client(self, cloud: Any, known: Properties) -> Any:
        return cloud.client("ec2", known.get("region"))


class SecurityGroup(Ec2Handler):
    token = "aws:ec2/securityGroup:SecurityGroup"
    noun = "Security Group"
    named = "name"
    optional = ("name", "description", "vpcId", "ingress", "egress", "revokeRulesOnDelete", "tags")
    defaults = {"description": DESCRIPTION, "revokeRulesOnDelete": False}
    replace_on = ("name", "description", "vpcId")

    def create(self, cloud: Any, inputs: Properties) -> str:
        client = self.client(cloud, inputs)
        where = {"VpcId": inputs["vpcId"]} if inputs.get("vpcId") else {}
        tags = tag_list(inputs.get("tags"))
        labels = {"TagSpecifications": [{"ResourceType": "security-group", "Tags": tags}]} if tags else {}
        group = client.create_security_group(
            GroupName=inputs["name"], Description=inputs["description"], **where, **labels
        )["GroupId"]
        # AWS lets everything out of a new group; the provider takes that away.
        everywhere = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        client.revoke_security_group_egress(GroupId=group, IpPermissions=[everywhere])
        self._set_rules(client, group, {}, inputs)
        return str(group)

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        client = self.client(cloud, known)
        answer = asked(lambda: client.describe_security_groups(GroupIds=[id]), ABSENT)
        if not answer or not answer["SecurityGroups"]:
            return None
        found = answer["SecurityGroups"][0]
        tags = tags_of(found.get("Tags"))
        region = known.get("region", cloud.region)
        sides = {"ingress": "IpPermissions", "egress": "IpPermissionsEgress"}
        rules = {side: [_rule(item) for item in found.get(name, ())] for side, name in sides.items() if side in known}
        return {
            **rules,
            "name": found["GroupName"],
            "description": found["Description"],
            "vpcId": found.get("VpcId", ""),
            "ownerId": found["OwnerId"],
            "arn": f"arn:{cloud.partition}:ec2:{region}:{found['OwnerId']}:security-group/{id}",
            "region": region,
            "tags": tags,
            "tagsAll": tags,
        }

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        client = self.client(cloud, new)
        self._set_rules(client, id, old, new)
        _tag(client, id, old, new)

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        asked(lambda: self.client(cloud, known).delete_security_group(GroupId=id), ABSENT)

    def _set_rules(self, client: Any, group: str, old: Properties, new: Properties) -> None:
        calls = {
            "ingress": (client.revoke_security_group_ingress, client.authorize_security_group_ingress),
            "egress": (client.revoke_security_group_egress, client.authorize_security_group_egress),
        }
        for side, (revoke, authorize) in calls.items():
            before, after = old.get(side) or [], new.get(side) or []
            if gone := [_permission(rule, group) for rule in before if rule not in after]:
                revoke(GroupId=group, IpPermissions=gone)
            if added := [_permission(rule, group) for rule in after if rule not in before]:
                authorize(GroupId=group, IpPermissions=added)


def _permission(rule: Properties, group: str) -> dict[str, Any]:
    about = {"Description": rule["description"]} if rule.get("description") else {}
    groups = [*rule.get("securityGroups", ()), *((group,) if rule.get("self") else ())]
    ports = {} if rule["protocol"] == "-1" else {"FromPort": rule["fromPort"], "ToPort": rule["toPort"]}
    lists = {
        "IpRanges": [{"CidrIp": address, **about} for address in rule.get("cidrBlocks", ())],
        "Ipv6Ranges": [{"CidrIpv6": address, **about} for address in rule.get("ipv6CidrBlocks", ())],
        "UserIdGroupPairs": [{"GroupId": item, **about} for item in groups],
    }
    return {"IpProtocol": rule["protocol"], **ports, **{key: items for key, items in lists.items() if items}}


def _rule(permission: Any) -> Properties:
    lists = {
        "cidrBlocks": [item["CidrIp"] for item in permission.get("IpRanges", ())],
        "ipv6CidrBlocks": [item["CidrIpv6"] for item in permission.get("Ipv6Ranges", ())],
        "securityGroups": [item["GroupId"] for item in permission.get("UserIdGroupPairs", ())],
    }
    ports = {"fromPort": permission.get("FromPort", 0), "toPort": permission.get("ToPort", 0)}
    return {"protocol": permission["IpProtocol"], **ports, **{key: items for key, items in lists.items() if items}}


def _tag(client: Any, id: str, old: Properties, new: Properties) -> None:
    added, removed = tag_changes(old, new)
    if added:
        client.create_tags(Resources=[id], Tags=tag_list(added))
    if removed:
        client.delete_tags(Resources=[id], Tags=[{"Key": key} for key in removed])


class GroupRule(Ec2Handler):
    """A rule of a group as a resource of its own."""

    ingress = True
    required = ("securityGroupId", "ipProtocol")
    optional = ("fromPort", "toPort", "cidrIpv4", "cidrIpv6", "referencedSecurityGroupId", "description", "tags")
    replace_on = ("securityGroupId",)

    def create(self, cloud: Any, inputs: Properties) -> str:
        client = self.client(cloud, inputs)
        call = client.authorize_security_group_ingress if self.ingress else client.authorize_security_group_egress
        answer = call(GroupId=inputs["securityGroupId"], IpPermissions=[_permission(_old_style(inputs), "")])
        rule = str(answer["SecurityGroupRules"][0]["SecurityGroupRuleId"])
        _tag(client, rule, {}, inputs)
        return rule

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        client = self.client(cloud, known)
        answer = asked(lambda: client.describe_security_group_rules(SecurityGroupRuleIds=[id]), ABSENT)
        if not answer or not answer["SecurityGroupRules"]:
            return None
        found = answer["SecurityGroupRules"][0]
        names = {
            "cidrIpv4": "CidrIpv4",
            "cidrIpv6": "CidrIpv6",
            "description": "Description",
            "fromPort": "FromPort",
            "toPort": "ToPort",
        }
        given = {key: found[name] for key, name in names.items() if found.get(name) is not None and key in known}
        group = found.get("ReferencedGroupInfo", {}).get("GroupId")
        tags = tags_of(found.get("Tags"))
        return {
            **given,
            **({"referencedSecurityGroupId": group} if group else {}),
            "securityGroupId": found["GroupId"],
            "ipProtocol": found["IpProtocol"],
            "securityGroupRuleId": id,
            "arn": f"arn:{cloud.partition}:ec2:{cloud.region}:{cloud.account}:security-group-rule/{id}",
            "region": known.get("region", cloud.region),
            "tags": tags,
            "tagsAll": tags,
        }

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        client = self.client(cloud, new)
        names = {
            "ipProtocol": "IpProtocol",
            "fromPort": "FromPort",
            "toPort": "ToPort",
            "cidrIpv4": "CidrIpv4",
            "cidrIpv6": "CidrIpv6",
            "referencedSecurityGroupId": "ReferencedGroupId",
            "description": "Description",
        }
        rule = {name: new[key] for key, name in names.items() if key in new}
        client.modify_security_group_rules(
            GroupId=new["securityGroupId"],
            SecurityGroupRules=[{"SecurityGroupRuleId": id, "SecurityGroupRule": rule}],
        )
        _tag(client, id, old, new)

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        client = self.client(cloud, known)
        call = client.revoke_security_group_ingress if self.ingress else client.revoke_security_group_egress
        asked(lambda: call(GroupId=known["securityGroupId"], SecurityGroupRuleIds=[id]), ABSENT)


def _old_style(inputs: Properties) -> Properties:
    lists = {
        "cidrBlocks": inputs.get("cidrIpv4"),
        "ipv6CidrBlocks": inputs.get("cidrIpv6"),
        "securityGroups": inputs.get("referencedSecurityGroupId"),
    }
    return {
        "protocol": inputs["ipProtocol"],
        "fromPort": inputs.get("fromPort", -1),
        "toPort": inputs.get("toPort", -1),
        "description": inputs.get("description", ""),
        **{key: [value] for key, value in lists.items() if value},
    }


class IngressRule(GroupRule):
    token = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
    noun = "VPC Security Group Ingress Rule"


class EgressRule(GroupRule):
    token = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
    noun = "VPC Security Group Egress Rule"
    ingress = False


class SecurityGroupRule(Ec2Handler):
    """The older form: one resource, several addresses, and nothing of it changes but its description."""

    token = "aws:ec2/securityGroupRule:SecurityGroupRule"
    noun = "Security Group Rule"
    required = ("securityGroupId", "type", "protocol", "fromPort", "toPort")
    optional = ("cidrBlocks", "ipv6CidrBlocks", "sourceSecurityGroupId", "self", "description")
    defaults = {"self": False}
    replace_on = (*required, *optional)

    def create(self, cloud: Any, inputs: Properties) -> str:
        self._call(cloud, inputs, "authorize")
        return f"sgrule-{inputs['securityGroupId']}-{inputs['type']}-{inputs['protocol']}-{inputs['fromPort']}"

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        group = known["securityGroupId"]
        found = SecurityGroup().read(cloud, group, {**known, "ingress": [], "egress": []})
        permission = _rule(_permission(self._rule(known), group))
        there = found and any(permission == _without_description(rule) for rule in found[known["type"]])
        region = known.get("region", cloud.region)
        names = (*self.required, *self.optional)
        return {**{key: known[key] for key in names if key in known}, "region": region} if there else None

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        asked(lambda: self._call(cloud, known, "revoke"), ABSENT)

    def _call(self, cloud: Any, inputs: Properties, verb: str) -> None:
        group = inputs["securityGroupId"]
        call = getattr(self.client(cloud, inputs), f"{verb}_security_group_{inputs['type']}")
        call(GroupId=group, IpPermissions=[_permission(self._rule(inputs), group)])

    def _rule(self, inputs: Properties) -> Properties:
        source = inputs.get("sourceSecurityGroupId")
        return {**inputs, "securityGroups": [source] if source else []}


def _without_description(rule: Properties) -> Properties:
    return {key: value for key, value in rule.items() if key != "description"}


def _filters(args: Properties, **more: Any) -> list[dict[str, Any]]:
    given = [{"Name": item["name"], "Values": item["values"]} for item in args.get("filters", ())]
    given += [{"Name": f"tag:{key}", "Values": [value]} for key, value in (args.get("tags") or {}).items()]
    names = {name.replace("_", "-"): value for name, value in more.items()}
    return given + [{"Name": name, "Values": [_text(value)]} for name, value in names.items() if value is not None]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _one(found: list[Any], noun: str) -> Any:
    if not found:
        raise NotThere(f"reading {noun}: no matching {noun} found")
    if len(found) > 1:
        raise NotThere(
            f"reading {noun}: multiple {noun}s matched; use additional constraints to reduce matches to a single {noun}"
        )
    return found[0]


def get_vpc(cloud: Any, args: Properties) -> Properties:
    wanted = _filters(args, vpc_id=args.get("id"), is_default=args.get("default"), cidr=args.get("cidrBlock"))
    region = args.get("region", cloud.region)
    found = _one(cloud.client("ec2", region).describe_vpcs(Filters=wanted)["Vpcs"], "EC2 VPC")
    return {
        "id": found["VpcId"],
        "arn": f"arn:{cloud.partition}:ec2:{region}:{cloud.account}:vpc/{found['VpcId']}",
        "cidrBlock": found["CidrBlock"],
        "default": found["IsDefault"],
        "region": region,
        "tags": tags_of(found.get("Tags")),
    }


def get_subnets(cloud: Any, args: Properties) -> Properties:
    region = args.get("region", cloud.region)
    found = cloud.client("ec2", region).describe_subnets(Filters=_filters(args))["Subnets"]
    return {"id": region, "ids": sorted(subnet["SubnetId"] for subnet in found), "region": region, "tags": {}}


def get_subnet(cloud: Any, args: Properties) -> Properties:
    region = args.get("region", cloud.region)
    wanted = _filters(args, subnet_id=args.get("id"), vpc_id=args.get("vpcId"))
    found = _one(cloud.client("ec2", region).describe_subnets(Filters=wanted)["Subnets"], "EC2 Subnet")
    return {
        "id": found["SubnetId"],
        "vpcId": found["VpcId"],
        "cidrBlock": found["CidrBlock"],
        "availabilityZone": found["AvailabilityZone"],
        "region": region,
        "tags": tags_of(found.get("Tags")),
    }


def get_security_group(cloud: Any, args: Properties) -> Properties:
    wanted = _filters(args, group_id=args.get("id"), group_name=args.get("name"), vpc_id=args.get("vpcId"))
    client = cloud.client("ec2", args.get("region"))
    found = _one(client.describe_security_groups(Filters=wanted)["SecurityGroups"], "EC2 Security Group")
    return {"id": found["GroupId"], **(SecurityGroup().read(cloud, found["GroupId"], args) or {})}


HANDLERS: tuple[Handler, ...] = (SecurityGroup(), SecurityGroupRule(), IngressRule(), EgressRule())
FUNCTIONS = {
    "aws:ec2/getVpc:getVpc": get_vpc,
    "aws:ec2/getSubnets:getSubnets": get_subnets,
    "aws:ec2/getSubnet:getSubnet": get_subnet,
    "aws:ec2/getSecurityGroup:getSecurityGroup": get_security_group,
}
