"""The Celery app of a stack, whichever its broker is."""

from pathlib import Path

import pytest

from buildflow.ir.runtime import RuntimePlan
from buildflow.runtime.celery_app import celery_app
from buildflow.runtime.connections import Connections

BROKERS = ["redis://127.0.0.1:6379/1", "rediss://127.0.0.1:6379/1", "amqp://guest@127.0.0.1//", "amqps://127.0.0.1//"]


def app_of(broker_url: str | None, state_url: str | None = None) -> object:
    plan = RuntimePlan(
        project="shop",
        stack="live",
        provider="local",
        dir=".buildflow/live",
        broker_url=broker_url,
        state_url=state_url,
    )
    return celery_app(Connections(plan, Path()))


@pytest.mark.parametrize("broker_url", BROKERS)
def test_only_json_is_accepted_and_names_are_the_stacks_own(broker_url: str) -> None:
    conf = app_of(broker_url).conf  # type: ignore[attr-defined]
    assert conf.broker_url == broker_url
    assert conf.accept_content == ["json"]
    assert {conf.task_serializer, conf.result_serializer, conf.event_serializer} == {"json"}
    assert conf.control_exchange == "shop-live.control"
    assert conf.event_exchange == "shop-live.events"


def test_redis_is_the_broker_that_state_url_names_where_there_is_no_broker_url() -> None:
    conf = app_of(None, state_url="redis://127.0.0.1:6379/0").conf  # type: ignore[attr-defined]
    assert conf.broker_url == "redis://127.0.0.1:6379/0"
    assert conf.broker_transport_options["global_keyprefix"] == "shop-live:celery:"


@pytest.mark.parametrize("broker_url", BROKERS)
def test_a_broker_that_falls_silent_is_noticed(broker_url: str) -> None:
    conf = app_of(broker_url).conf  # type: ignore[attr-defined]
    if broker_url.startswith("redis"):
        assert conf.broker_transport_options["socket_timeout"] == 15
    else:
        assert conf.broker_heartbeat == 15
        assert not conf.control_queue_exclusive, "a worker that was cut off may have its own back"
