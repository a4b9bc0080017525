"""What each parameter of a handler or a factory receives: found by name, never by a silent choice."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from buildflow.binding.columns import Unfit
from buildflow.diagnostics import Severity, closest, did_you_mean
from buildflow.ir.runtime import Injection
from buildflow.ir.signature import Parameter, Place, Shape, Signature


@dataclass(frozen=True)
class Names:
    """What a parameter's name may find. `handles` maps every primitive's key to its handle's type, "" where
    handlers get none of it."""

    dependencies: Collection[str]
    handles: Mapping[str, str]
    broken: Collection[str] = ()
    """Keys whose declaration has a mistake of its own; nothing is said about them."""

    @cached_property
    def all(self) -> set[str]:
        return {*self.dependencies, *self.handles, *self.broken}


@dataclass(frozen=True)
class Bound:
    """The injections of one function, and the parameters left over."""

    inject: tuple[Injection, ...]
    rest: tuple[Parameter, ...]
    problems: tuple[Unfit, ...]


_PATH_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


def path_parameters(path: str) -> tuple[str, ...]:
    return tuple(_PATH_PARAMETER.findall(path))


def bind(
    signature: Signature,
    names: Names,
    *,
    explicit: Mapping[str, str],
    path: Collection[str] = (),
    made: Callable[[str], Shape] | None = None,
) -> Bound:
    """Divide parameters into injected ones and the rest. `explicit` is `inject:`, `path` a route's parameters; for a
    route, `made` tells what a dependency's factory gives."""
    injections: list[Injection] = []
    rest: list[Parameter] = []
    problems: list[Unfit] = []
    own = {p.name for p in signature.parameters}
    opaque = any(p.variadic for p in signature.parameters)
    for name in explicit:
        if name not in own and not opaque:
            message = f'it has no parameter "{name}" to inject into'
            if explicit[name] in own and name in names.all:
                hint = f"it is `parameter: key`: write `inject: {{{explicit[name]}: {name}}}`"
                problems.append(Unfit("BF323", message, hint, signature.place, ("inject", name)))
                continue
            problems.append(_misspelt("BF323", message, name, own, signature.place, ("inject", name)))
    for parameter in signature.parameters:
        if parameter.variadic:
            continue
        if parameter.positional_only and not parameter.required:
            continue  # it keeps its default
        if parameter.positional_only:
            if any(p.code == "BF304" for p in problems):
                continue  # one `/`, one mistake
            message = f'parameter "{parameter.name}" takes its value by position only, and values are given by name'
            problems.append(Unfit("BF304", message, "remove the `/` behind it", parameter.place))
            continue
        key = explicit.get(parameter.name, parameter.name)
        if key in names.broken:
            continue
        if parameter.name in explicit and key not in names.all:
            message = f'"{key}" is neither a dependency nor a primitive'
            place = ("inject", parameter.name)
            problems.append(_misspelt("BF210", message, key, names.all, parameter.place, place))
            continue
        injection, problem = _injection(parameter, key, names, path, parameter.name in explicit)
        if not problem and injection and made and parameter.name not in explicit:
            problem = _perhaps_of_the_request(parameter, injection, made)
        if problem:
            problems.append(problem)
        elif injection:
            injections.append(injection)
        else:
            rest.append(parameter)
    return Bound(tuple(injections), tuple(rest), tuple(problems))


def _misspelt(
    code: str, message: str, name: str, known: Collection[str], place: Place, below: tuple[str, ...]
) -> Unfit:
    hint = did_you_mean(name, known) or "remove it, or give the function a parameter of that name"
    return Unfit(code, message, hint, place, below, name, closest(name, known) or "")


_OF_THE_REQUEST = {"query", "header", "cookie", "body", "form", "file"}
_PLAIN_VALUES = {"string", "integer", "float", "boolean"}


def _perhaps_of_the_request(parameter: Parameter, injection: Injection, made: Callable[[str], Shape]) -> Unfit | None:
    """A parameter with a dependency's key that reads like a part of the request: which is meant is not guessed."""
    if injection.kind != "dependency":
        return None
    kind = parameter.shape.kind
    if parameter.marker in _OF_THE_REQUEST:
        what = f"a {parameter.marker} parameter"
    elif kind in _PLAIN_VALUES and made(injection.key).kind != kind:
        what = "a query parameter"
    else:
        return None
    name = parameter.name
    message = f'"{name}" could be {what} and the dependency "{injection.key}"'
    hint = f"rename one, or say that it is the dependency: `inject: {{{name}: {injection.key}}}`"
    return Unfit("BF305", message, hint, parameter.place)


def _injection(
    parameter: Parameter, key: str, names: Names, path: Collection[str], explicit: bool
) -> tuple[Injection | None, Unfit | None]:
    kind = "dependency" if key in names.dependencies else "primitive" if key in names.handles else None
    if kind is None:
        return None, None
    if parameter.name in path and not explicit:
        if kind == "primitive" and parameter.annotated and not _is_handle(parameter.shape):
            return None, None
        message = f'"{parameter.name}" is a parameter of the path and a {kind}'
        hint = f"rename one, or say which: `inject: {{{parameter.name}: {key}}}`"
        return None, Unfit("BF305", message, hint, parameter.place)
    if kind == "dependency":
        return Injection(parameter=parameter.name, kind="dependency", key=key), None
    handle = names.handles[key]
    if parameter.annotated and not _is_handle(parameter.shape) and not explicit:
        return None, None  # the name is a coincidence: the annotation says it is something else
    if not handle:
        message = f'"{key}" has no handle that a handler could use'
        hint = "rename the parameter, or annotate it if it is something else"
        return None, Unfit("BF304", message, hint, parameter.place)
    if parameter.annotated and _is_handle(parameter.shape) and parameter.shape.name != handle:
        message = f'parameter "{parameter.name}" is annotated {parameter.shape.text}, "{key}" is a {_short(handle)}'
        return None, Unfit("BF304", message, f"annotate it with {_short(handle)}", parameter.place)
    return Injection(parameter=parameter.name, kind="primitive", key=key), None


HANDLES = frozenset(f"buildflow.types.{name}" for name in ("Bucket", "Queue", "Table", "Database", "Topic"))


def _is_handle(shape: Shape) -> bool:
    return shape.name in HANDLES


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def check_route(signature: Signature, bound: Bound, path: str) -> list[Unfit]:
    """Every path parameter has its parameter in the handler, and every parameter marked `Path()` is in the path."""
    in_path = path_parameters(path)
    found = [
        Unfit(
            "BF307",
            f'parameter "{p.name}" is a path parameter, and the path has none of that name',
            f"write `{{{p.name}}}` into the path, or drop `Path()`",
            p.place,
        )
        for p in bound.rest
        if p.marker == "path" and p.name not in in_path
    ]
    found += [
        Unfit(
            "BF304",
            f'path parameter "{p.name}" cannot be {p.shape.text}: a part of a path is one value',
            "annotate it with str, int, float, bool or UUID",
            p.place,
        )
        for p in bound.rest
        if p.name in in_path and p.shape.kind in ("record", "list", "mapping")
    ]
    if any(p.variadic for p in signature.parameters):
        return found
    names = {p.name for p in (*bound.rest, *(p for p in signature.parameters if p.positional_only))}
    return found + [
        Unfit(
            "BF307",
            f'the path has the parameter "{name}", the function has not',
            _rename(name, names),
            signature.place,
            wrong=f"{{{name}" if closest(name, names) else "",
            right=f"{{{closest(name, names)}" if closest(name, names) else "",
        )
        for name in in_path
        if name not in names
        and not any(name == i.parameter for i in bound.inject)
        and not any(p.code == "BF305" and f'"{name}"' in p.message for p in bound.problems)
    ]


def _rename(name: str, names: Collection[str]) -> str:
    near = closest(name, names)
    return f'did you mean "{near}"? rename one of the two' if near else f"add a parameter {name}"


def element_parameter(
    signature: Signature, bound: Bound, names: Names | None = None
) -> tuple[Parameter | None, list[Unfit]]:
    """The one parameter that receives the element; what else is required cannot be filled."""
    if not bound.rest:
        if any(p.variadic for p in signature.parameters) or bound.problems:
            return None, []
        return None, [Unfit("BF306", "it has no parameter for the element", "add one", signature.place)]
    required = [p for p in bound.rest if p.required] or [bound.rest[0]]
    asking = [p for p in required if is_of_request(p)]
    found = [
        Unfit(
            "BF304",
            f'parameter "{p.name}" takes {p.shape.text or "a part of a request"}, and a consumer has no request',
            "drop it: a consumer gets its element, dependencies and primitives",
            p.place,
        )
        for p in asking
    ]
    others = [p for p in required if p not in asking]
    if not others:
        return None, found
    return others[0], [*found, *(_unfilled(p, others[0], names) for p in others[1:])]


def _unfilled(parameter: Parameter, element: Parameter, names: Names | None) -> Unfit:
    message = (
        f'parameter "{parameter.name}" cannot be filled: no dependency or primitive bears that name, '
        f'and "{element.name}" takes the element'
    )
    near = closest(parameter.name, names.all) if names else None
    hint = f'did you mean "{near}"?' if near else "declare a dependency of that name, give it a default, or drop it"
    return Unfit("BF304", message, hint, parameter.place)


_REQUEST_TYPES = {
    "Request",
    "WebSocket",
    "HTTPConnection",
    "UploadFile",
    "BackgroundTasks",
    "Response",
    "SecurityScopes",
}


def is_of_request(parameter: Parameter) -> bool:
    """Whether only an HTTP request can fill this parameter."""
    package, _, last = parameter.shape.name.rpartition(".")
    from_web = package.partition(".")[0] in ("fastapi", "starlette") or package == "buildflow.requests"
    return bool(parameter.marker) or (from_web and last in _REQUEST_TYPES)


_RAW = {"unknown", "mapping"}


def check_element(parameter: Parameter, carried: str, source: str) -> list[Unfit]:
    """An element's annotation against what its source carries; `carried` is "" where that is up to the sender."""
    shape = parameter.shape
    if shape.is_batch:
        shape = shape.item or Shape(kind="unknown")
    if any(option.name == carried for option in shape.options):
        return []
    if shape.name == "buildflow.types.Message":
        shape = shape.item or Shape(kind="unknown")
    if not carried and shape.is_plain:
        message = f'parameter "{parameter.name}" takes {parameter.shape.text}, which no element can be read as'
        hint = f"make {_short(shape.name)} a dataclass or a pydantic model, or declare a dependency of that name"
        return [Unfit("BF304", message, hint, parameter.place)]
    if not carried or shape.kind in _RAW or shape.name == carried:
        return []
    if shape.kind == "named" and _short(shape.name).endswith(_short(carried)):
        return []  # the original's names: S3FileChangeEvent, GCSFileChangeEvent
    message = f'parameter "{parameter.name}" takes {parameter.shape.text}, "{source}" carries {_short(carried)}'
    hint = f"annotate it with {_short(carried)}"
    if shape.kind == "list":
        hint += f", or with list[{_short(carried)}] for batches"
    if _short(carried) == "FileChangeEvent" and shape.kind in ("bytes", "string"):
        hint += ", and read its `.blob`"
    return [Unfit("BF214", message, hint, parameter.place)]


def check_factory(
    signature: Signature, bound: Bound, arguments: Collection[str], names: Names, *, of_request: bool = False
) -> list[Unfit]:
    """Every parameter of a factory is given by `with:`, a dependency, a primitive, or has a default. Where it is built
    for a request (`of_request`), the others are the request's, but for those that look misspelt."""
    variadic = any(p.variadic for p in signature.parameters)
    own = {p.name for p in signature.parameters}
    misspelt = set() if variadic else {closest(name, own) for name in arguments if name not in own}
    unfilled = [p for p in bound.rest if p.required and p.name not in arguments and p.name not in misspelt]
    if of_request:
        unfilled = [p for p in unfilled if _is_plain(p) or (not p.annotated and closest(p.name, names.all))]
    problems = [_not_filled(p, signature, names) for p in unfilled]
    if not variadic:
        problems += [
            _misspelt(
                "BF323", f'{signature.name} has no parameter "{name}"', name, own, signature.place, ("with", name)
            )
            for name in arguments
            if name not in own
        ]
    return problems


def _not_filled(parameter: Parameter, signature: Signature, names: Names) -> Unfit:
    message = f'parameter "{parameter.name}" of {signature.name} is not filled'
    if is_of_request(parameter):
        hint = "give the dependency `scope: request`"
        return Unfit("BF322", f"{message}: what lives longer than a request has none", hint, parameter.place)
    return Unfit("BF322", message, _fill(parameter.name, names), parameter.place)


def _fill(name: str, names: Names) -> str:
    near = closest(name, names.all)
    return f'did you mean "{near}"?' if near else f"give it below `with:`, or name a dependency or primitive {name}"


def check_query(bound: Bound, names: Names, path: str) -> list[Unfit]:
    """A route's parameter that is all but a dependency's key, and would be read from the query."""
    in_path = path_parameters(path)
    return [
        Unfit(
            "BF305",
            f'parameter "{p.name}" is read from the query; its name is all but that of the dependency "{near}"',
            f'did you mean "{near}"? else annotate it',
            p.place,
            severity=Severity.WARNING,
        )
        for p in bound.rest
        if p.required
        and not p.annotated
        and p.name not in in_path
        and (near := closest(p.name, names.dependencies))
        and p.name.rstrip("s") != near.rstrip("s")
    ]


def check_filled(bound: Bound, names: Names) -> list[Unfit]:
    """No parameter of a route is left that a request cannot fill, with a default or without: a plain class."""
    return [
        Unfit(
            "BF304",
            f'parameter "{p.name}" takes {p.shape.text}, which no request fills',
            f'did you mean "{near}"?' if (near := closest(p.name, names.all)) else "declare a dependency of that name",
            p.place,
        )
        for p in bound.rest
        if _is_plain(p)
    ]


def _is_plain(parameter: Parameter) -> bool:
    shape = parameter.shape
    return not parameter.marker and (shape.is_plain or (shape.item is not None and shape.item.is_plain))


def check_middleware(signature: Signature, arguments: Collection[str]) -> list[Unfit]:
    """The constructor of an ASGI middleware against `with:`; its first parameter is the app behind it."""
    inner = signature.parameters[1:] if signature.parameters and not signature.parameters[0].variadic else ()
    if not inner and signature.parameters and signature.parameters[0].variadic:
        return []
    signature = replace(signature, parameters=tuple(inner))
    bound = Bound((), tuple(p for p in inner if not p.variadic), ())
    return check_factory(signature, bound, arguments, Names((), {}))
