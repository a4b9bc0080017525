"""The two services that a program talks to: the resource monitor and the engine."""

from collections.abc import Callable
from typing import Any

import grpc
from pulumi_cli.deployment import Deployment
from pulumi_cli.problems import DeploymentFailed, ProviderFailed
from pulumi_cli.protos import proto
from pulumi_cli.providers import FUNCTIONS, service_of
from pulumi_cli.providers.aws import errors
from pulumi_cli.registering import Goal, Registrar
from pulumi_cli.values import UNKNOWN, fill_struct, from_struct, plain

resource_pb2 = proto("resource_pb2")
engine_pb2 = proto("engine_pb2")

# What the SDK does by itself where the monitor does not: it resolves aliases, gates invokes and sends resources as
# their ids. Transforms, hooks and parameterized packages are not there.
FEATURES = {
    "secrets": resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS,
    "deletedWith": resource_pb2.RESOURCE_MONITOR_FEATURE_DELETED_WITH,
}
SHUT_DOWN = "resource monitor shut down while waiting on step's done channel"
SEVERITIES = {0: "debug", 1: "info", 2: "warning", 3: "error"}


class ResourceMonitor(proto("resource_pb2_grpc").ResourceMonitorServicer):  # type: ignore[misc]
    """`pulumirpc.ResourceMonitor`."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._registrar = Registrar(deployment)

    def GetDeploymentInfo(self, request: Any, context: Any) -> Any:
        return resource_pb2.DeploymentInfo(
            project=self._deployment.project,
            stack=self._deployment.stack,
            organization="organization",
            dryRun=self._deployment.options.preview,
            parallel=self._deployment.options.parallel,
            supportedFeatures=FEATURES.values(),
        )

    def SupportsFeature(self, request: Any, context: Any) -> Any:
        return resource_pb2.SupportsFeatureResponse(hasSupport=request.id in FEATURES)

    def RegisterResource(self, request: Any, context: Any) -> Any:
        if request.remote:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "the stand-in for the Pulumi CLI has no remote components")
        new = self._asked(context, lambda: self._registrar.register(_goal(request)))
        if new is None:
            urn = self._registrar.urn(_goal(request))
            return resource_pb2.RegisterResourceResponse(urn=urn, result=resource_pb2.FAIL)
        answer = resource_pb2.RegisterResourceResponse(urn=new.urn, id="" if new.id == UNKNOWN else new.id)
        fill_struct(answer.object, new.outputs)
        return answer

    def RegisterResourceOutputs(self, request: Any, context: Any) -> Any:
        self._asked(context, lambda: self._registrar.outputs(request.urn, from_struct(request.outputs)))
        return _empty()

    def ReadResource(self, request: Any, context: Any) -> Any:
        goal = Goal(
            request.type,
            request.name,
            True,
            from_struct(request.properties),
            parent=request.parent,
            provider=request.provider,
            version=request.version,
            dependencies=list(request.dependencies),
            additional_secret_outputs=list(request.additionalSecretOutputs),
        )
        new = self._asked(context, lambda: self._registrar.read(goal, request.id))
        if new is None:
            return resource_pb2.ReadResourceResponse(urn=self._registrar.urn(goal), result=resource_pb2.FAIL)
        answer = resource_pb2.ReadResourceResponse(urn=new.urn, id="" if new.id == UNKNOWN else new.id)
        fill_struct(answer.properties, new.outputs)
        return answer

    def Invoke(self, request: Any, context: Any) -> Any:
        if request.tok not in FUNCTIONS:
            context.abort(
                grpc.StatusCode.UNKNOWN, f"the stand-in for the Pulumi CLI does not know the function {request.tok}"
            )
        cloud = self._asked(context, lambda: self._registrar.cloud(request.tok, request.provider, request.version))
        answer = resource_pb2.ResourceInvokeResponse()
        if cloud is None:
            answer.unknown = True
            return answer
        try:
            with errors(service=service_of(request.tok)):
                found = FUNCTIONS[request.tok](cloud, plain(from_struct(request.args)))
        except ProviderFailed as failure:
            context.abort(grpc.StatusCode.UNKNOWN, f"invoking {request.tok}: 1 error occurred:\n\t* {failure}\n\n")
        fill_struct(getattr(answer, "return"), found)
        return answer

    def SignalAndWaitForShutdown(self, request: Any, context: Any) -> Any:
        """The real one answers when everything is deleted, for the sake of hooks, of which there are none here."""
        return _empty()

    def _asked(self, context: Any, work: Callable[[], Any]) -> Any:
        """Do what the program asks; end the program when it fails, unless the rest is to go on: then None."""
        if self._deployment.cancelled.is_set():
            context.abort(grpc.StatusCode.UNAVAILABLE, "resource monitor shut down while sending resource registration")
        try:
            return work()
        except DeploymentFailed as failure:
            self._deployment.fail(failure)
        except ProviderFailed as failure:
            self._deployment.fail(DeploymentFailed(str(failure)))
        if not self._deployment.options.continue_on_error:
            context.abort(grpc.StatusCode.UNAVAILABLE, SHUT_DOWN)
        return None


def _goal(request: Any) -> Goal:
    return Goal(
        request.type,
        request.name,
        request.custom,
        from_struct(request.object),
        parent=request.parent,
        provider=request.provider,
        version=request.version,
        dependencies=list(request.dependencies),
        property_dependencies={
            key: sorted(each.urns) for key, each in request.propertyDependencies.items() if each.urns
        },
        protect=request.protect if request.HasField("protect") else None,
        retain_on_delete=request.retainOnDelete if request.HasField("retainOnDelete") else None,
        delete_before_replace=request.deleteBeforeReplace if request.deleteBeforeReplaceDefined else None,
        ignore_changes=list(request.ignoreChanges),
        replace_on_changes=list(request.replaceOnChanges),
        additional_secret_outputs=list(request.additionalSecretOutputs),
        aliases=list(request.aliasURNs),
        deleted_with=request.deletedWith,
        import_id=request.importId,
    )


def _empty() -> Any:
    from google.protobuf.empty_pb2 import Empty

    return Empty()


class Engine(proto("engine_pb2_grpc").EngineServicer):  # type: ignore[misc]
    """`pulumirpc.Engine`: what the program says, and its root resource."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._root = ""

    def Log(self, request: Any, context: Any) -> Any:
        severity = SEVERITIES[request.severity]
        if severity != "debug":
            self._deployment.events.diagnostic(severity, request.message, request.urn, request.ephemeral)
        return _empty()

    def GetRootResource(self, request: Any, context: Any) -> Any:
        return engine_pb2.GetRootResourceResponse(urn=self._root)

    def SetRootResource(self, request: Any, context: Any) -> Any:
        self._root = request.urn
        return engine_pb2.SetRootResourceResponse()
