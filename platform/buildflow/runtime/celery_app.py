"""Celery as a stack uses it: its broker, names of the stack's own there, and JSON as all that crosses it.

The worker runs on it; `buildflow.celery` gives it to Celery's own tools.
"""

from typing import Any

from celery import Celery

from buildflow.runtime.connections import Connections

SILENCE = 15
"""Seconds without a sign after which the broker counts as lost: a link that is cut ends no connection."""


def celery_app(connections: Connections) -> Celery:
    """The app of one stack, without tasks. Stacks that share a broker do not see one another: Redis parts them by
    the prefix of a key, RabbitMQ by the names of exchanges."""
    namespace = connections.namespace
    broker = _broker(connections)
    app = Celery("buildflow", broker=broker)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        event_serializer="json",
        control_exchange=f"{namespace}.control",
        event_exchange=f"{namespace}.events",
        event_queue_prefix=f"{namespace}.events",
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        **(_redis_settings(namespace) if broker.startswith("redis") else _RABBITMQ_SETTINGS),
    )
    return app


def _redis_settings(namespace: str) -> dict[str, Any]:
    options = {"socket_timeout": SILENCE, "socket_connect_timeout": SILENCE, "health_check_interval": SILENCE}
    return {"broker_transport_options": {"global_keyprefix": f"{namespace}:celery:", **options}}


_RABBITMQ_SETTINGS = {
    "broker_heartbeat": SILENCE,
    # an exclusive queue is refused to a worker that comes back before RabbitMQ has noticed that it was gone
    "control_queue_exclusive": False,
    "control_queue_durable": True,
}


def _broker(connections: Connections) -> str:
    url = connections.resolve(connections.plan.broker_url)
    return str(url) if url else str(connections.session("local").kombu_url())
