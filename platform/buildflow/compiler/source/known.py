"""What is known about the types of the standard library, pydantic and FastAPI without reading their source.

Reading it would cost more than the whole project does, and these names mean the same everywhere.
"""

import builtins
import sys

from buildflow.ir.signature import ShapeKind

OPAQUE = frozenset({*sys.stdlib_module_names, "typing_extensions", "pydantic", "pydantic_core", "annotated_types",
                    "fastapi", "starlette"})  # fmt: skip
"""Packages whose names are taken as they are, unless the project has a module of that name itself."""

_SAME_MODULE = {
    "typing_extensions": "typing",
    "collections.abc": "typing",
    "_collections_abc": "typing",
    "pydantic.main": "pydantic",
    "pydantic.fields": "pydantic",
    "pydantic.types": "pydantic",
    "pydantic.networks": "pydantic",
    "pydantic.root_model": "pydantic",
    "fastapi.params": "fastapi",
    "fastapi.param_functions": "fastapi",
}


def canonical(name: str) -> str:
    """One name for what several modules export."""
    module, _, last = name.rpartition(".")
    if name.startswith("buildflow.types."):
        return f"buildflow.types.{last}"
    return f"{_SAME_MODULE[module]}.{last}" if module in _SAME_MODULE else name


def builtin(name: str) -> str:
    """The dotted name of a built-in, "" where there is none of that name."""
    return f"builtins.{name}" if hasattr(builtins, name) else ""


def _in(module: str, *names: str) -> frozenset[str]:
    return frozenset(f"{module}.{name}" for name in names)


def _kinds(kind: ShapeKind, *names: str) -> dict[str, ShapeKind]:
    return dict.fromkeys(names, kind)


SCALARS: dict[str, ShapeKind] = {
    **_kinds("none", "types.NoneType"),
    **_kinds("string", "builtins.str", "typing.Text", "typing.LiteralString"),
    **_kinds("string", *_in("pydantic", "StrictStr", "EmailStr", "Base64Str", "Base64UrlStr", "constr")),
    **_kinds("integer", "builtins.int"),
    **_kinds("integer", *_in("pydantic", "PositiveInt", "NegativeInt", "NonNegativeInt", "NonPositiveInt")),
    **_kinds("integer", *_in("pydantic", "StrictInt", "ByteSize", "conint")),
    **_kinds("float", "builtins.float"),
    **_kinds("float", *_in("pydantic", "PositiveFloat", "NegativeFloat", "NonNegativeFloat", "NonPositiveFloat")),
    **_kinds("float", *_in("pydantic", "StrictFloat", "FiniteFloat", "confloat")),
    **_kinds("boolean", "builtins.bool", "pydantic.StrictBool"),
    **_kinds("bytes", "builtins.bytes"),
    **_kinds("bytes", *_in("pydantic", "StrictBytes", "Base64Bytes", "Base64UrlBytes", "conbytes")),
    **_kinds("timestamp", "datetime.datetime"),
    **_kinds("timestamp", *_in("pydantic", "AwareDatetime", "NaiveDatetime", "PastDatetime", "FutureDatetime")),
    **_kinds("date", "datetime.date", "pydantic.PastDate", "pydantic.FutureDate", "pydantic.condate"),
    **_kinds("time", "datetime.time"),
}
"""Types that are one value; pydantic's functions (`conint(gt=0)`) among them."""

BASES: dict[str, ShapeKind] = {
    **{name: kind for name, kind in SCALARS.items() if not name.startswith("pydantic.")},
    **_kinds("string", "enum.StrEnum"),
    **_kinds("integer", "enum.IntEnum", "enum.IntFlag", "http.HTTPStatus"),
}
"""What the objects of a class are whose base this is."""

MANY = (
    _in("builtins", "list", "tuple", "set", "frozenset")
    | _in("collections", "deque")
    | _in("typing", "List", "Tuple", "Set", "FrozenSet", "Deque", "Sequence", "MutableSequence", "AbstractSet",
          "MutableSet", "Collection", "Container", "Reversible", "Iterable", "Iterator", "Generator", "AsyncIterable",
          "AsyncIterator", "AsyncGenerator", "KeysView", "ValuesView")
    | _in("pydantic", "conlist", "conset", "confrozenset")
)  # fmt: skip
TUPLES = frozenset({"builtins.tuple", "typing.Tuple"})
COLLECTIONS = _in("builtins", "list", "tuple", "set", "frozenset") | _in(
    "typing", "List", "Tuple", "Set", "FrozenSet", "Iterator", "Generator", "AsyncIterator", "AsyncGenerator"
)
"""Those whose subclasses are surely many of something, and no rows."""

MAPPINGS = (
    _in("builtins", "dict")
    | _in("collections", "OrderedDict", "defaultdict", "Counter", "ChainMap", "UserDict")
    | _in("typing", "Dict", "Mapping", "MutableMapping", "OrderedDict", "DefaultDict", "Counter", "ChainMap")
    | _in("types", "MappingProxyType")
    | _in("pydantic", "JsonValue")
)
AWAITABLES = _in("typing", "Awaitable", "Coroutine") | _in("asyncio", "Future", "Task")
TRANSPARENT = (
    _in("typing", "Annotated", "Required", "NotRequired", "ReadOnly", "Final", "ClassVar", "Unpack")
    | _in("dataclasses", "InitVar")
    | _in("pydantic", "SkipValidation", "OnErrorOmit", "InstanceOf")
)
"""`X[T]` that says something about a T."""

RECORD_CALLS = frozenset({"typing.NamedTuple", "typing.TypedDict", "collections.namedtuple"})
"""Functions that make a record class."""

VARIABLES = _in("typing", "TypeVar", "ParamSpec", "TypeVarTuple")
HARMLESS_BASES = _in("builtins", "object") | _in("typing", "Generic", "Protocol") | _in("abc", "ABC")
HARMLESS_METACLASSES = _in("builtins", "type") | _in("abc", "ABCMeta")
DATACLASS = frozenset({"dataclasses.dataclass", "pydantic.dataclasses.dataclass"})
HARMLESS_CLASS_DECORATORS = (
    _in("typing", "final", "runtime_checkable", "no_type_check", "dataclass_transform", "deprecated")
    | _in("functools", "total_ordering")
    | _in("enum", "unique", "verify")
    | _in("warnings", "deprecated")
)
MANAGERS = {
    "contextlib.contextmanager": "contextlib.AbstractContextManager",
    "contextlib.asynccontextmanager": "contextlib.AbstractAsyncContextManager",
}
HARMLESS_DECORATORS = (
    _in("builtins", "staticmethod", "classmethod")
    | _in("functools", "cache", "lru_cache", "singledispatch")
    | _in("typing", "final", "override", "deprecated", "overload")
    | _in("abc", "abstractmethod")
    | _in("atexit", "register")
    | _in("types", "coroutine")
    | _in("warnings", "deprecated")
    | _in("pydantic", "validate_call")
    | frozenset(MANAGERS)
)
"""Those that leave the parameters as they are written."""

READ_BY = frozenset({"__get_pydantic_core_schema__", "__get_validators__", "__pydantic_core_schema__"})
"""Members by which a class tells pydantic how it is read."""

MARKERS = _in("fastapi", "Path", "Query", "Header", "Cookie", "Body", "Form", "File", "Depends", "Security")

_NO_CLASSES = frozenset({"builtins.object", "builtins.type", "types.GenericAlias", "types.UnionType"})
_LOOSE_MODULES = ("typing", "starlette.types", "fastapi.types")


def is_class(name: str) -> bool:
    """Whether a name of an opaque package stands for one class, so that nothing else fits it."""
    module, _, last = name.rpartition(".")
    if module == "builtins":
        return isinstance(getattr(builtins, last, None), type) and name not in _NO_CLASSES
    return module not in _LOOSE_MODULES and name not in _NO_CLASSES and bool(module)
