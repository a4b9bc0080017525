"""Run the inline program: serve what it talks to, and ask its language host to run it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from pulumi_cli.deployment import Deployment
from pulumi_cli.monitor import Engine, ResourceMonitor
from pulumi_cli.problems import CommandFailed, DeploymentFailed
from pulumi_cli.protos import OPTIONS, proto
from pulumi_cli.values import Secret, plain


def run_program(deployment: Deployment, client: str | None) -> None:
    """The program registers its resources while this waits; a failure of its own fails the deployment."""
    if not client:
        raise CommandFailed("the stand-in for the Pulumi CLI runs inline programs alone: --client is missing")
    server = grpc.server(ThreadPoolExecutor(max_workers=64), options=OPTIONS)
    proto("resource_pb2_grpc").add_ResourceMonitorServicer_to_server(ResourceMonitor(deployment), server)
    proto("engine_pb2_grpc").add_EngineServicer_to_server(Engine(deployment), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        error = _run(deployment, client, f"127.0.0.1:{port}")
    finally:
        server.stop(grace=1).wait()
    if error and not deployment.failed and not deployment.cancelled.is_set():
        deployment.fail(DeploymentFailed(f"an unhandled error occurred: {error}"))


def _run(deployment: Deployment, client: str, own: str) -> str:
    request = proto("language_pb2").RunRequest(
        project=deployment.project,
        stack=deployment.stack,
        organization="organization",
        pwd=str(Path.cwd()),
        args=[own],
        monitor_address=own,
        config={key: _text(value) for key, value in deployment.config.items()},
        configSecretKeys=[key for key, value in deployment.config.items() if isinstance(value, Secret)],
        dryRun=deployment.options.preview,
        parallel=deployment.options.parallel,
    )
    with grpc.insecure_channel(client, options=OPTIONS) as channel:
        call = proto("language_pb2_grpc").LanguageRuntimeStub(channel).Run.future(request)
        try:
            return str(call.result().error)
        except grpc.RpcError as exc:
            return f"could not run the program: {exc.details()}"  # the language host is gone


def _text(value: Any) -> str:
    return str(plain(value))
