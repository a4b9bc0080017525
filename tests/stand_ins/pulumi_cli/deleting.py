"""Deletions: what a program no longer has, what replacements left behind, and everything when a stack is destroyed."""

from pulumi_cli.checkpoint import Resource
from pulumi_cli.deployment import Deployment, needs_provider
from pulumi_cli.problems import DeploymentFailed
from pulumi_cli.providers import handler_of
from pulumi_cli.steps import Step


def delete_what_is_gone(deployment: Deployment) -> None:
    """After the program: the real engine deletes side by side, level by level; here one goes after another, which is
    an order that it may take too."""
    left = [old for old in reversed(deployment.checkpoint.before) if _left(deployment, old)]
    _delete(deployment, [old for old in left if old.delete or deployment.options.touches(old.urn)])


def _left(deployment: Deployment, old: Resource) -> bool:
    """Is it still there although nobody asked for it?"""
    return old.delete or id(old) not in deployment.taken


def destroy(deployment: Deployment) -> None:
    everything = list(reversed(deployment.checkpoint.resources))
    doomed = _targets(deployment, everything)
    if deployment.options.exclude_protected:
        kept = {urn for old in doomed if old.protect for urn in (old.urn, *deployment.needed(old))}
        doomed = [old for old in doomed if old.urn not in kept]
    _delete(deployment, doomed)


def _targets(deployment: Deployment, everything: list[Resource]) -> list[Resource]:
    options = deployment.options
    if not options.targets and not options.excludes:
        return everything
    wanted = {old.urn for old in everything if options.touches(old.urn)}
    dependents = {old.urn for old in everything if wanted & deployment.needed(old)} - wanted
    if options.targets and dependents and not options.dependents:
        urn = sorted(dependents)[0]
        raise DeploymentFailed(
            f"Resource '{urn}' will be destroyed but was not specified in --target list.\nEither include resource in "
            "--target list or pass --target-dependents to proceed.",
            urn,
        )
    if options.targets:
        return [old for old in everything if old.urn in wanted | dependents]
    needed = {urn for old in everything if not options.touches(old.urn) for urn in deployment.needed(old)}
    return [old for old in everything if old.urn in wanted - needed]


def _delete(deployment: Deployment, doomed: list[Resource]) -> None:
    protected = [old for old in doomed if old.protect and not old.delete]
    for old in protected:
        deployment.fail(
            DeploymentFailed(
                f'resource "{old.urn}" cannot be deleted\nbecause it is protected. To unprotect the resource, either '
                "remove the `protect` flag from the resource in your Pulumi program and run `pulumi up`, or use the "
                f"command:\n`pulumi state unprotect '{old.urn}'`",
                old.urn,
            )
        )
    if protected and not deployment.options.preview:
        return
    gone = {old.urn for old in doomed}
    for old in doomed:
        if deployment.cancelled.is_set() and not deployment.options.preview:
            return
        _delete_one(deployment, old, gone)


def _delete_one(deployment: Deployment, old: Resource, gone: set[str]) -> None:
    if old.pending_replacement or old.urn in deployment.deleted_first:
        deployment.checkpoint.end(None, gone=old)
        return
    if old.external:
        deployment.perform(Step("discard", old, old, None, gone=old))
        return

    def act() -> None:
        if needs_provider(old) and not old.retain_on_delete and old.deleted_with not in gone:
            deployment.delete(handler_of(old.type, old.urn), deployment.clouds.of(old.provider), old)

    op = "delete-replaced" if old.delete else "delete"
    try:
        deployment.perform(Step(op, old, old, None, logical=not old.delete, act=act, gone=old))
    except DeploymentFailed as failure:
        deployment.fail(failure)
