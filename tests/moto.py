"""AWS on loopback: moto's server, and what tests make in it with boto3 alone, as Pulumi does elsewhere."""

import contextlib
import functools
import logging
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer
from moto.sqs.models import SQSBackend

from buildflow.compiler import compile_file
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.registry import driver, is_declared
from buildflow.providers.aws import AwsSession
from buildflow.provision.state import State, save
from buildflow.runtime.connections import Connections

REGION = "eu-central-1"
KEYS = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "wJalrXUtnFEMI"}


class Moto:
    """One server with nothing in it at first."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.settings: dict[str, Any] = {"region": REGION, "endpoint_url": url, **KEYS}
        self._session = boto3.Session(**KEYS, region_name=REGION)
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._session.client(service, endpoint_url=self.url)
            return self._clients[service]

    def forget(self) -> None:
        """Empty it: what one process serves is one AWS, whichever server made it."""
        request = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")
        with urllib.request.urlopen(request) as answer:
            answer.read()

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def queue(self, name: str, *, received: int = 0, **attributes: str) -> dict[str, str]:
        """Its outputs. With `received`, it has a redrive queue for what was received more often."""
        sqs = self.client("sqs")
        fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
        outputs = {"name": name}
        if received:
            stem, dot, rest = name.partition(".fifo")
            redrive = self.queue(f"{stem}-redrive{dot}{rest}")
            outputs["redrive_url"] = redrive["url"]
            attributes["RedrivePolicy"] = f'{{"deadLetterTargetArn":"{redrive["arn"]}","maxReceiveCount":{received}}}'
        url = sqs.create_queue(QueueName=name, Attributes={**fifo, **attributes})["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return {**outputs, "url": url, "arn": arn}

    def topic(self, name: str) -> dict[str, str]:
        fifo = {"FifoTopic": "true"} if name.endswith(".fifo") else {}
        return {"name": name, "arn": self.client("sns").create_topic(Name=name, Attributes=fifo)["TopicArn"]}

    def subscription(self, name: str, topic: dict[str, str], filter: str = "") -> dict[str, str]:
        """A queue that gets a topic's messages raw; `filter` is a policy in JSON."""
        outputs = self.queue(name)
        attributes = {"RawMessageDelivery": "true", **({"FilterPolicy": filter} if filter else {})}
        self.client("sns").subscribe(
            TopicArn=topic["arn"], Protocol="sqs", Endpoint=outputs["arn"], Attributes=attributes
        )
        return outputs

    def bucket(self, name: str) -> dict[str, str]:
        where = {"LocationConstraint": REGION}
        self.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=where)
        return {"name": name, "url": f"s3://{name}", "arn": f"arn:aws:s3:::{name}", "region": REGION}

    def notify(self, bucket: str, queue: dict[str, str], *events: str) -> None:
        """Tell a queue of a bucket's events, beside those that are told already."""
        s3 = self.client("s3")
        told = s3.get_bucket_notification_configuration(Bucket=bucket).get("QueueConfigurations", [])
        mine = {"QueueArn": queue["arn"], "Events": list(events or ("s3:ObjectCreated:*",))}
        configuration = {"QueueConfigurations": [*told, mine]}
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)


_alone = threading.RLock()
_UNSAFE = ("send_message", "delete_message_batch", "change_message_visibility_batch", "purge_queue")
"""What moto does to a queue's list of messages without a lock: two requests at once lose what one of them did."""


def _one_at_a_time(change: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(change)
    def changed(*arguments: Any, **options: Any) -> Any:
        with _alone:
            return change(*arguments, **options)

    return changed


def _receiving(receive: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """Without a lock, two who ask at once get the same message."""

    def received(backend: SQSBackend, queue_name: str, count: int, wait: int, *arguments: Any) -> list[Any]:
        end = time.monotonic() + wait
        while True:
            with _alone:
                found = receive(backend, queue_name, count, 0, *arguments)
            left = end - time.monotonic()
            if found or left <= 0:
                return found
            backend.get_queue(queue_name).wait_for_messages(min(left, 0.1))  # type: ignore[arg-type]

    return received


def _is_kept(backend: SQSBackend, queue_name: str, message: Any) -> bool:
    """moto counts the whole queue thrice for each message that it gives."""
    retention = backend.get_queue(queue_name).message_retention_period  # type: ignore[attr-defined]
    return bool(time.time() < message.sent_timestamp / 1000 + retention)


@functools.cache
def _make_safe() -> None:
    """Let moto's queues bear many requests at once, as SQS' do."""
    for name in _UNSAFE:
        setattr(SQSBackend, name, _one_at_a_time(getattr(SQSBackend, name)))
    SQSBackend.receive_message = _receiving(SQSBackend.receive_message)  # type: ignore[method-assign]
    SQSBackend.is_message_valid_based_on_retention_period = _is_kept  # type: ignore[method-assign]


@contextlib.contextmanager
def moto() -> Iterator[Moto]:
    """A server on a free port, for as long as the block lasts."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    _make_safe()
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    made = Moto(f"http://{host}:{port}")
    made.forget()
    try:
        yield made
    finally:
        made.close()
        server.stop()


def session_on(moto: Moto, folder: Path, *resources: Resource, **settings: Any) -> AwsSession:
    """An open stack "shop-aws" with these resources; its Redis is an embedded one below `folder`."""
    graph = ResourceGraph(project="shop", stack="aws", resources=resources)
    return AwsSession(graph, folder, folder / "aws", "shop-aws", None, {**moto.settings, **settings})


class AppliedWithoutPulumi:
    """Makes what a project declares: in AWS by boto3, and beside it by drivers. It is recorded as `apply` does."""

    def __init__(self, aws: Moto, folder: Path) -> None:
        self.aws = aws
        compiled = compile_file(folder / "buildflow.yaml")
        assert compiled.ok, compiled.diagnostics
        self.folder = compiled.root / compiled.plan.dir
        self.connections = Connections(compiled.plan, compiled.root)
        made: dict[str, Resource] = {}
        try:
            for resource in compiled.graph.resources:
                made[resource.key] = resource.model_copy(update={"outputs": self._outputs(resource, made)})
        finally:
            self.connections.close()
        save(self.folder, State(resources=made))

    def _outputs(self, resource: Resource, made: dict[str, Resource]) -> dict[str, Any]:
        if not is_declared(resource.type, resource.provider):
            session = self.connections.session(resource.provider)
            outputs: dict[str, Any] = driver(resource.type, resource.provider).create(resource, session)
            return outputs
        if resource.type == "bucket":
            return self.aws.bucket(resource.name)
        if resource.type == "topic":
            return self.aws.topic(resource.name)
        if resource.type == "subscription":
            return self.aws.subscription(resource.name, made[resource.references["topic"]].outputs)
        outputs = self.aws.queue(resource.name)
        if resource.type == "file_change_stream":
            self.aws.notify(made[resource.references["bucket"]].name, outputs)
        return outputs
