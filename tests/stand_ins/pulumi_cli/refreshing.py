"""Refresh: read every resource back, and take what is found for what there is."""

from concurrent.futures import ThreadPoolExecutor

from pulumi_cli.checkpoint import Resource
from pulumi_cli.deployment import Deployment, alike, copied, known, needs_provider, with_secrets
from pulumi_cli.problems import DeploymentFailed, ProviderFailed
from pulumi_cli.providers import handler_of, service_of
from pulumi_cli.providers.aws import errors
from pulumi_cli.providers.handler import DEFAULTED, Handler
from pulumi_cli.steps import Step
from pulumi_cli.values import Properties, differences, plain, root


def refresh(deployment: Deployment, *, clear_pending_creates: bool = False) -> None:
    """The result of each resource: same, update or delete."""
    options = deployment.options
    wanted = [old for old in deployment.checkpoint.resources if options.touches(old.urn) and not old.delete]
    found: dict[int, Resource | None] = {}
    with ThreadPoolExecutor(max(1, min(options.parallel, 8))) as pool:
        for old, new in zip(wanted, pool.map(lambda old: _read(deployment, old), wanted), strict=True):
            found[id(old)] = new
    if options.preview:
        return
    # The order stays, and what is gone is no dependency any more.
    after = [found.get(id(old), old) for old in deployment.checkpoint.resources]
    kept = [resource for resource in after if resource is not None]
    there = {resource.urn for resource in kept}
    deployment.checkpoint.before = [_without_the_gone(resource, there) for resource in kept]
    deployment.checkpoint.interrupted = [
        entry for entry in deployment.checkpoint.interrupted if entry[1] == "creating" and not clear_pending_creates
    ]
    deployment.checkpoint.save()


def _without_the_gone(resource: Resource, there: set[str]) -> Resource:
    by_property = {key: [urn for urn in urns if urn in there] for key, urns in resource.property_dependencies.items()}
    return copied(
        resource,
        dependencies=[urn for urn in resource.dependencies if urn in there],
        property_dependencies={key: urns for key, urns in by_property.items() if urns},
        deleted_with=resource.deleted_with if resource.deleted_with in there else "",
    )


def _read(deployment: Deployment, old: Resource) -> Resource | None:
    step = Step("refresh", old, old, old, logical=True)
    if step.reported:
        deployment.report("resourcePreEvent", step)
    if not needs_provider(old) or old.pending_replacement:
        new: Resource | None = old
    else:
        try:
            new = _found(deployment, old)
        except ProviderFailed as failure:
            deployment.events.send("resOpFailedEvent", {"metadata": step.metadata(), "status": 0, "steps": 0})
            deployment.fail(DeploymentFailed(f"1 error occurred:\n\t* {failure}\n\n", old.urn))
            return old
    step.new = new
    drifted = {} if new is None else _drift(old, new)
    step.detailed, step.diffs = drifted, sorted(set(map(root, drifted)))
    result = "delete" if new is None else "update" if drifted else "same"
    if step.reported:
        deployment.report("resOutputsEvent", step, result)
        deployment.count(step, result)
    return new


def _found(deployment: Deployment, old: Resource) -> Resource | None:
    """The resource as the cloud has it."""
    handler, cloud = handler_of(old.type, old.urn), deployment.clouds.of(old.provider)
    with errors(f"reading {handler.noun} ({old.id})", service_of(old.type)):
        found = handler.read(cloud, old.id, known(old))
    if found is None:
        return None
    found = {key: value for key, value in found.items() if not _kept(handler, old, key, value)}
    inputs = old.inputs | {key: value for key, value in found.items() if _differs(handler, old, key, value)}
    if inputs.get("tags") == {}:
        inputs.pop("tags")
    return copied(old, inputs=with_secrets(inputs, old), outputs=with_secrets(old.outputs | found, old))


def _differs(handler: Handler, old: Resource, key: str, value: object) -> bool:
    """Only what the program gave, or could have: values that AWS computes come and go."""
    given = (old.inputs.keys() - {DEFAULTED}) | ({"tags"} & {*handler.optional})
    return key in given and bool(differences({key: plain(old.outputs.get(key))}, {key: value}))


def _drift(old: Resource, new: Resource) -> dict[str, str]:
    changed = {key for key in {*old.inputs, *new.inputs} if old.inputs.get(key) != new.inputs.get(key)}
    return differences(_only(changed, old.outputs), _only(changed, new.outputs))


def _only(keys: set[str], properties: Properties) -> Properties:
    return {key: value for key, value in properties.items() if key in keys}


def _kept(handler: Handler, old: Resource, key: str, value: object) -> bool:
    """A JSON text that only the spelling of has changed is kept as it was."""
    return key in handler.documents and key in old.outputs and alike(old.outputs[key], value)
