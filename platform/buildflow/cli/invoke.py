"""`platform invoke`: call one handler with one event."""

import asyncio
import contextlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from buildflow.cli.attributes import AttributeOption, as_mapping
from buildflow.cli.project import (
    Choice,
    FileOption,
    JsonOption,
    SetOption,
    StackOption,
    connected,
    correct,
    need_applied,
)
from buildflow.cli.terminal import EXIT_MISTAKE, put, put_json, say, styled
from buildflow.compiler import DEFAULT_FILE, Compilation
from buildflow.diagnostics import did_you_mean
from buildflow.errors import BuildflowError, UnknownName
from buildflow.ir.runtime import ConsumerPlan
from buildflow.primitives.registry import all_primitives

FILE_CHANGE, TICK = "buildflow.types.FileChangeEvent", "buildflow.types.Tick"


def invoke(
    handler: Annotated[
        str, typer.Argument(metavar="CONSUMER|'METHOD /PATH'", help="A consumer by its key, or a request of a route.")
    ],
    event: Annotated[str | None, typer.Argument(help="The event as JSON; - reads it from stdin.")] = None,
    source: Annotated[Path | None, typer.Option("--from", help="A file that holds the event.")] = None,
    commit: Annotated[bool, typer.Option("--commit", help="Write the rows to the consumer's sinks.")] = False,
    given: AttributeOption = None,
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Call one handler with one event, and print what it returns, as JSON.

    Its dependencies are the real ones, and so is what it does by itself. Nothing is acknowledged; its rows are written
    with `--commit` alone, under a fresh element id. What it prints goes to stderr.

    `platform invoke save_order '{"id": 1}'`: of a queue, a message. With `--commit` its rows are in the sink.

    `platform invoke classify_image cat.png`: of a file_change_stream, the path of an object is enough.

    `platform invoke cleanup '{}'`: of a schedule, a tick that is due now.

    `platform invoke "GET /orders/7?full=true"`, `platform invoke "POST /orders" --from order.json -a authorization=x`.
    """  # fmt: skip
    headers = as_mapping(given)
    body = _event(event, source)
    choice = Choice(file, stack, values)
    result = correct(choice, as_json=as_json)
    if " " in handler.strip():
        _invoke_route(handler, body or b"", headers, result, choice, commit=commit, as_json=as_json)
    else:
        _invoke_consumer(handler, body, headers, result, choice, commit=commit)


def _event(event: str | None, source: Path | None) -> bytes | None:
    if event is not None and source is not None:
        raise typer.BadParameter("the event is given twice; leave one out", param_hint="--from")
    if source is not None:
        try:
            return source.read_bytes()
        except OSError as exc:
            raise typer.BadParameter(f"{source} cannot be read: {exc.strerror}", param_hint="--from") from exc
    return sys.stdin.buffer.read() if event == "-" else None if event is None else event.encode()


# a consumer


def _invoke_consumer(
    key: str, body: bytes | None, headers: dict[str, str], result: Compilation, choice: Choice, *, commit: bool
) -> None:
    from buildflow.runtime.invocation import invoke_consumer, needed

    keys = [c.key for c in result.plan.consumers]
    if key not in keys:
        requests = [f"{r.method} {r.path}" for r in result.plan.routes]
        raise UnknownName(f'there is no consumer "{key}"', hint=did_you_mean(key, [*keys, *requests]))
    consumer = result.plan.consumer(key)
    sinks = [consumer.sink] if consumer.sink else [sink.to for sink in consumer.sinks]
    primitives = [*needed(result.plan, consumer.handler.inject)[1], *_bucket(consumer, result)]
    need_applied(result, choice, *primitives, *(sinks if commit else []))
    element = _element(consumer, body, result)
    with _called(consumer.handler.function, result) as connections:
        id, rows = asyncio.run(invoke_consumer(consumer, connections, element, headers, commit=commit))
    put_json(_plain(rows))
    count = f"{len(rows)} row{'' if len(rows) == 1 else 's'}"
    if not sinks:
        say(f"{styled('✓', 'green')} {consumer.handler.function} returned")
    elif commit:
        say(f"{styled('✓', 'green')} {count} written to {', '.join(sinks)}, as element {id}")
    else:
        say(f"{styled('✓', 'green')} {count}; nothing was written: `--commit` writes to {', '.join(sinks)}")


def _bucket(consumer: ConsumerPlan, result: Compilation) -> list[str]:
    """The bucket that a file change's object is read from."""
    source = result.plan.resource(consumer.source)
    return [source.references["bucket"]] if "bucket" in source.references else []


def _element(consumer: ConsumerPlan, body: bytes | None, result: Compilation) -> bytes:
    """The event as its source would carry it."""
    kind = all_primitives()[result.plan.resource(consumer.source).type].element
    if body is None and kind == TICK:
        return b"{}"
    if body is None:
        words = f"the event is missing: give it as JSON, `platform invoke {consumer.key} '{{\"id\": 1}}'`"
        raise typer.BadParameter(words, param_hint="EVENT")
    if kind == FILE_CHANGE and not body.lstrip().startswith(b"{"):
        return json.dumps({"file_path": body.decode("utf-8", "surrogateescape").strip()}).encode()
    return body.strip()


def _plain(rows: list[Any]) -> Any:
    """Rows as JSON takes them; bytes that are no text in base64."""
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        return to_jsonable_python(rows, inf_nan_mode="constants", serialize_unknown=True)
    except (PydanticSerializationError, UnicodeDecodeError):
        return to_jsonable_python(rows, inf_nan_mode="constants", serialize_unknown=True, bytes_mode="base64")


# a route


def _invoke_route(
    request: str,
    body: bytes,
    headers: dict[str, str],
    result: Compilation,
    choice: Choice,
    *,
    commit: bool,
    as_json: bool,
) -> None:
    from buildflow.runtime.invocation import invoke_route, needed, route_of

    method, _, target = request.strip().partition(" ")
    method, target = method.upper(), target.strip()
    route = route_of(result.plan.routes, method, target)
    if route is None or method == "WS":
        requests = [f"{r.method} {r.path}" for r in result.plan.routes if r.method != "WS"]
        raise UnknownName(f'no route answers "{request}"', hint=did_you_mean(f"{method} {target}", requests))
    name = f"{route.method} {route.path}"
    if route.handler is None:
        hint = f"send the request to the gateway: {name}"
        raise BuildflowError(f'"{name}" has no handler to call: its body is the rows of "{route.sink}"', hint=hint)
    if route.sink and not commit:
        words = f'"{name}" is a collector: it answers when its row is in "{route.sink}"'
        raise BuildflowError(words, hint="`--commit` lets it")
    function = route.handler.function
    need_applied(result, choice, route.sink, *needed(result.plan, route.inject)[1])
    with _called(function, result) as connections:
        answer = asyncio.run(invoke_route(route, connections, target, body, headers))
    _put_answer(answer.status, answer.headers, answer.body, function, as_json=as_json)


def _put_answer(status: int, headers: dict[str, str], body: bytes, function: str, *, as_json: bool) -> None:
    try:
        value: Any = json.loads(body)
    except ValueError:
        value = body.decode("utf-8", "replace")
    if as_json:
        put_json({"status": status, "headers": headers, "body": value})
    elif not isinstance(value, str):
        put_json(value)
    elif body:
        put(value)
    good = status < 400
    said = f"{status} from {function}, {headers.get('content-type', 'nothing')}"
    say(f"{styled('✓', 'green') if good else styled('✗', 'red')} {said}")
    if not good:
        sys.exit(EXIT_MISTAKE)


# the user's code


@contextlib.contextmanager
def _called(function: str, result: Compilation) -> Iterator[Any]:
    """What a process of the stack has around a handler: its folder, its environment, its log. What is printed goes to
    stderr; what is raised is told with the user's own lines."""
    from buildflow.providers.env_file import env_file_in_environment
    from buildflow.runtime.process import set_up_logging

    root = result.root.resolve()
    os.chdir(root)
    sys.path.insert(0, str(root))
    set_up_logging("invoke", result.plan.options.log_level)
    with (
        env_file_in_environment(root),
        connected(replace(result, root=root)) as connections,
        contextlib.redirect_stdout(sys.stderr),
    ):
        try:
            yield connections
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - the user's code: it may raise anything, and that is told
            _tell(exc, function, root)


def _tell(exc: BaseException, function: str, root: Path) -> NoReturn:
    """A handler's failure in words, with the lines of the project that led to it. One of the platform's own, which no
    such line led to, is told as it is."""
    from buildflow.providers.secret_mask import masked

    lines = _own_lines(exc, root)
    if not lines and isinstance(exc, BuildflowError):
        raise BuildflowError(masked(str(exc)), hint=exc.hint) from exc
    if not lines and not type(exc).__module__.startswith("fastapi"):  # which refuses what a handler returned
        raise exc
    text = [f"{function} raised {_named(exc)}", *lines]
    cause = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    while cause is not None:
        text += [f"because of {_named(cause)}", *_own_lines(cause, root)]
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    raise BuildflowError(masked("\n".join(text))) from exc


def _named(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__


def _own_lines(exc: BaseException, root: Path) -> list[str]:
    """`file:line in function` and the line itself, for the frames of files that are the project's own."""
    own = []
    for frame in traceback.extract_tb(exc.__traceback__):
        path = Path(frame.filename)
        if path.is_relative_to(root) and not path.is_relative_to(sys.prefix) and "site-packages" not in path.parts:
            own += [f"  {path.relative_to(root)}:{frame.lineno} in {frame.name}", f"    {frame.line}"]
    return own
