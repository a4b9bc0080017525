"""Does a resource policy let a service act? S3 asks that when it is given a destination for its notifications."""

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any


def allows(policy: str, *, service: str, action: str, resource: str, context: Mapping[str, str]) -> bool:
    """`context` holds the condition keys that the service sends: `aws:SourceArn`, `aws:SourceAccount`."""
    statements = [
        statement
        for statement in _list(json.loads(policy).get("Statement", ()) if policy else ())
        if _principal(statement, service)
        and any(fnmatchcase(action.lower(), each.lower()) for each in _list(statement.get("Action", ())))
        and any(fnmatchcase(resource, each) for each in _list(statement.get("Resource", ())))
        and _conditions(statement.get("Condition", {}), context)
    ]
    effects = {statement.get("Effect") for statement in statements}
    return "Allow" in effects and "Deny" not in effects


def _principal(statement: Mapping[str, Any], service: str) -> bool:
    principal = statement.get("Principal")
    if principal == "*":
        return True
    given = principal or {}
    return "*" in _list(given.get("AWS", ())) or service in _list(given.get("Service", ()))


def _conditions(conditions: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    """Every operator and key has to hold; what is not known here does not."""
    known = {key.lower(): value for key, value in context.items()}
    return all(
        operator in OPERATORS
        and key.lower() in known
        and any(OPERATORS[operator](known[key.lower()], value) for value in _list(values))
        for operator, keys in conditions.items()
        for key, values in keys.items()
    )


OPERATORS = {
    "StringEquals": lambda given, value: given == value,
    "StringLike": fnmatchcase,
    "ArnEquals": fnmatchcase,
    "ArnLike": fnmatchcase,
}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
