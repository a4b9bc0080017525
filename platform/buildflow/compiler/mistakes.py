"""pydantic's complaints as diagnostics: in the user's words, at the user's place.

A model is validated as a whole; each complaint's path is followed through the document, past the branches of unions,
so that one mistake is told once.
"""

import builtins
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from buildflow.compiler.canonical import stack_keys
from buildflow.compiler.unions import (
    WRONG_TYPE,
    Path,
    annotation_at,
    bare,
    field_of,
    is_union,
    location,
    one_per_union,
    rebuild,
)
from buildflow.diagnostics import Diagnostic, Replacement, Span, closest, did_you_mean, misspelt
from buildflow.spec import document, project
from buildflow.spec.document import Mapping, Node, Scalar, at, key_span, plain, scalar_value
from buildflow.spec.units import DURATION, in_words
from buildflow.spec.values import AWS_REGION, AWS_ROLE, URL

M = TypeVar("M", bound=BaseModel)


def validate_model(
    model: type[M], node: Node, path: Path, found: list[Diagnostic], unread: set[Path], *, root: Mapping
) -> M | None:
    """One mapping against one model. After mistakes, without what they are about, whose paths are then `unread`;
    `None` where too little is left of it."""
    if isinstance(node, Scalar) and node.value is None:
        node = Mapping({}, node.span)
    if not isinstance(node, Mapping):
        hint = "or a handler: `package.module:function`" if path[0] == "routes" else _as_field(node, model)
        found.append(wrong_type(f"`{path[-1]}`", node, "a mapping", node.span, hint))
        return None
    values = plain(node)
    try:
        return model.model_validate(values)
    except ValidationError as first:
        error = first
    if _read_interpolated(values, node, error, model):
        try:
            return model.model_validate(values)
        except ValidationError as second:
            error = second
    details = one_per_union(error.errors(include_url=False), model, node)
    for detail in _without_misspelt(details):
        found.append(_diagnostic(detail, model, node, path, root))
    value, out = rebuild(model, values, details, node)
    unread |= {(*path, *place) for place in out | _meant(details, model)}
    return value


def _meant(details: list[Any], model: type[BaseModel]) -> set[Path]:
    """The paths that unknown keys are probably meant to be."""
    unknown = [d["loc"] for d in details if d["type"] == "extra_forbidden"]
    near = ((loc, closest(str(loc[-1]), known_keys(model, loc[:-1]))) for loc in unknown)
    return {(*loc[:-1], name) for loc, name in near if name}


def _without_misspelt(details: list[Any]) -> list[Any]:
    """Without the keys that are missing because they are misspelt: that is one mistake."""
    missing = {tuple(d["loc"]) for d in details if d["type"] == "missing"}
    meant = set()
    for extra in (d["loc"] for d in details if d["type"] == "extra_forbidden"):
        beside = {str(m[-1]) for m in missing if m[:-1] == extra[:-1]}
        meant.add((*extra[:-1], closest(str(extra[-1]), beside)))
    return [d for d in details if d["type"] != "missing" or tuple(d["loc"]) not in meant]


def _read_interpolated(values: Any, node: Mapping, error: ValidationError, model: type[BaseModel]) -> bool:
    """`force_destroy: ${env.FORCE}` is text until here: read it as YAML would, where the model wants no text."""
    changed = False
    for detail in error.errors(include_url=False, include_input=False):
        loc, _ = location(detail["loc"], model, node)
        target = at(node, loc)
        if isinstance(target, Scalar) and target.interpolated and isinstance(target.value, str) and target.value:
            parent = values
            for part in loc[:-1]:
                parent = parent[part]
            if loc and not isinstance(read := scalar_value(target.value), str):
                parent[loc[-1]] = read
                changed = True
    return changed


def _diagnostic(detail: Any, model: type[BaseModel], node: Mapping, path: Path, root: Mapping) -> Diagnostic:
    loc: Path = detail["loc"]
    kind = detail["type"]
    name = _name(loc, path)
    if kind == "extra_forbidden":
        return _unknown_key(loc, model, node, path)
    if kind == "refused":
        return _refused(detail, node, path, root)
    if kind == "missing":
        owner = key_span(root, (*path, *loc[:-1])) if path or len(loc) > 1 else node.span
        return Diagnostic("BF202", f"{name} is missing{inside(path, loc)}", owner, _describe(model, loc))
    span = at(node, loc).span
    if loc and isinstance(at(node, loc[:-1]), Mapping) and loc[-1] not in getattr(at(node, loc[:-1]), "pairs", {}):
        span = key_span(node, loc)
    wanted = detail.get("wanted") or WRONG_TYPE.get(kind)
    if loc[-1:] == ("auth",) and plain(at(node, loc)) in (False, None):
        return Diagnostic("BF203", f"{name} names a dependency", span, "write `auth: none` to let everybody in")
    if wanted and kind in WRONG_TYPE:
        inner = _model_at(model, loc) if "mapping" in wanted else None
        hint = _as_field(at(node, loc), inner) if inner else ""
        return wrong_type(name, at(node, loc), wanted, span, hint or _describe(model, loc))
    message, hint = _WRONG_VALUE.get(kind, _as_is)(detail, at(node, loc))
    code = _PATTERN_CODES.get(detail.get("ctx", {}).get("pattern", ""), "BF204")
    fix = _literal_fix(detail, at(node, loc)) if kind == "literal_error" else None
    return Diagnostic(code, f"{name} {message}", span, hint or _describe(model, loc), fix=fix)


def _refused(detail: Any, node: Mapping, path: Path, root: Mapping) -> Diagnostic:
    """What a model's own check refused: see `buildflow.spec.values.refusal`."""
    loc, context = detail["loc"], detail["ctx"]
    span = key_span(node, (*loc, context["key"])) if context["key"] else key_span(root, (*path, *loc))
    owner = inside(path, (*loc, "")).removeprefix(" in ")
    return Diagnostic(context["code"], f"{owner}: {detail['msg']}", span, context["hint"])


def _unknown_key(loc: Path, model: type[BaseModel], node: Mapping, path: Path) -> Diagnostic:
    name = str(loc[-1])
    keys = stack_keys() if model is project.Stack and len(loc) == 1 else known_keys(model, loc[:-1])
    keys |= {"app", "pulumi_config"} if model is project.Project and len(loc) == 1 else set()
    span, message = key_span(node, loc), f'unknown key "{name}"{inside(path, loc)}'
    below = [p for p in project.PROVIDERS if name in known_keys(model, (*loc[:-1], p))]
    if below and "managed" in keys:
        return Diagnostic("BF201", message, span, f"it belongs below {' or '.join(f'`{p}:`' for p in below)}")
    if name == "factory" and issubclass(model, project.BuiltIn):
        hint = "keep either `type`, for one of the platform's own, or `factory`, for yours"
        return Diagnostic("BF201", message, span, hint)
    return misspelt("BF201", message, span, name, keys, f"one of: {', '.join(sorted(keys))}")


def _literal_fix(detail: Any, node: Node) -> Replacement | None:
    """The one of the allowed texts that is probably meant."""
    value = plain(node)
    near = closest(value, re.findall(r"'([^']*)'", detail["ctx"]["expected"])) if isinstance(value, str) else None
    return Replacement(node.span, value, near) if near else None


def _name(loc: Path, path: Path) -> str:
    """How a message calls the value at `loc`: by its key, an item of a list by its number."""
    whole = (*path, *loc)
    if isinstance(whole[-1], int):
        return f"item {whole[-1] + 1} of `{whole[-2]}`"
    return f"`{whole[-1]}`"


def singular(section: str) -> str:
    """What one entry of a section is."""
    return "dependency" if section == "dependencies" else section.removesuffix("s")


def inside(path: Path, loc: Path) -> str:
    """Where a key belongs, in words: that at `loc` below `path`."""
    owner = [str(p) for p in (*path, *loc[:-1])]
    if not owner:
        return ""
    last = (*path, *loc[:-1])[-1]
    if isinstance(last, int):
        return f" in item {last + 1} of {'.'.join(owner[:-1])}"
    if len(owner) == 2 and owner[0] in ("primitives", "dependencies", "consumers", "stacks"):
        return f' in {singular(owner[0])} "{owner[1]}"'
    if owner[0] == "routes" and len(owner) == 2:
        return f' in route "{owner[1]}"'
    return f" in {'.'.join(owner)}"


def known_keys(model: type[BaseModel], path: Path) -> set[str]:
    """The keys of the model at `path` below `model`."""
    inner = _model_at(model, path)
    return {f.alias or name for name, f in inner.model_fields.items()} if inner else set()


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    current: Any = model
    for part in path:
        current = annotation_at(current, part)
        if is_union(current):
            current = next((c for c in map(bare, get_args(current)) if _holds_model(c)), None)
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _holds_model(annotation: Any) -> bool:
    inner = bare(get_args(annotation)[-1]) if get_origin(annotation) is list else annotation
    return isinstance(inner, type) and issubclass(inner, BaseModel)


def _describe(model: type[BaseModel], loc: Path) -> str:
    """A field's own description as the hint."""
    inner = _model_at(model, loc[:-1]) if loc else None
    info = field_of(inner, loc[-1]) if inner else None
    return (info.description or "") if info else ""


def shown(node: Node) -> str:
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, document.Sequence):
        return "a list"
    if node.value is None:
        return "empty"
    if isinstance(node.value, str):
        return f'the text "{node.value}"'
    return {True: "true", False: "false"}[node.value] if isinstance(node.value, bool) else f"{node.value}"


def wrong_type(name: str, node: Node, wanted: str, span: Span, otherwise: str = "") -> Diagnostic:
    """A value of another type than `wanted` ("a list"), with what to write instead."""
    message = f"{name} has to be {wanted}, this is {shown(node)}"
    text = str(plain(node)) if isinstance(node, Scalar) else ""
    if wanted == "true or false" and text.lower() not in _YES and closest(text, ("true", "false")):
        return misspelt("BF203", message, span, text, ("true", "false"))
    return Diagnostic("BF203", message, span, _cure(node, wanted) or otherwise)


_YES = {
    **dict.fromkeys(("yes", "on", "y", "true"), "write true"),
    **dict.fromkeys(("no", "off", "n", "false"), "write false"),
}
"""Words for true and false that YAML 1.2 reads as text."""


def _as_field(node: Node, model: type[BaseModel]) -> str:
    """A value where a mapping belongs is often that of the mapping's first required field."""
    if not isinstance(node, Scalar) or node.value is None or "\n" in str(node.value):
        return ""
    names = {f.alias or name: f for name, f in model.model_fields.items()}
    needed = [name for name, f in names.items() if f.is_required()] or list(names)[:1]
    text, handlers = str(plain(node)), [name for name in ("handler", "factory", "class") if name in needed]
    if isinstance(node.value, bool):
        return f"write `{needed[0]}: ...` below it"
    if re.fullmatch(project.HANDLER, text):
        return f"write `{handlers[0]}: {text}` below it" if handlers else ""
    first = names[needed[0]].annotation
    if first is int and not isinstance(scalar_value(text), int):
        return ""
    if "provider" in needed:
        return f"write `provider: {text if text in project.PROVIDERS else 'local'}` below it"
    return f"write `{needed[0]}: {shown(node) if not isinstance(node.value, str) else text}` below it"


def _cure(node: Node, wanted: str) -> str:
    """What the user probably meant to write; empty when that cannot be told."""
    if isinstance(node, document.Sequence):
        return _cure_of_list(node, wanted)
    if isinstance(node, Mapping):
        return _cure_of_mapping(node, wanted)
    if node.value is None:
        return ""
    text = str(plain(node))
    if wanted == "true or false":
        return _YES.get(text.lower(), "")
    if "mapping" in wanted and re.match(r"[A-Za-z_][\w-]*:\S", text) and not re.fullmatch(project.HANDLER, text):
        return f"write `{text.replace(':', ': ', 1)}`, with a space behind the colon"
    if "list" in wanted and re.match(r"-\w", text):
        return f"write `- {text.split()[0][1:]}`, with a space behind each `-`"
    if wanted == "a list":
        simple = re.fullmatch(r"[A-Za-z_][\w.:/-]*", text)
        return f"write `[{text if simple else json.dumps(text)}]`, a list of one"
    if wanted == "text" and not isinstance(node.value, str):
        return f'put quotes around it: "{shown(node)}"'
    if "number" in wanted and isinstance(number := scalar_value(text), int | float):
        return f"write {text}, without quotes" if isinstance(number, int) else f"write {number:.0f}, a whole number"
    return ""


def _cure_of_list(node: document.Sequence, wanted: str) -> str:
    in_brackets = not node.items or node.items[0].span.column - node.span.column == 1
    if wanted == "a mapping":
        return "write `{key: value}`" if in_brackets else "write `key: value` lines, without the `-`"
    one = plain(node.items[0]) if len(node.items) == 1 else None
    return f"write {one}, without the list" if wanted == "text" and isinstance(one, str) else ""


def _cure_of_mapping(node: Mapping, wanted: str) -> str:
    kind, keys = node.get("type"), list(node.pairs)
    if wanted == "text" and isinstance(kind, Scalar):
        return f"write the type alone: `{kind.value}`"
    if wanted == "text" and len(keys) == 1 and isinstance(value := node.pairs[keys[0]].value, Scalar):
        return f"write the value alone: `{value.value}`"
    if "list" in wanted and keys:
        return f"write `- {keys[0]}: ...`, an item of a list"
    return ""


def is_exception(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseException)


def _as_is(detail: Any, node: Node) -> tuple[str, str]:
    return f"is not right: {detail['msg']}", ""


def _literal(detail: Any, node: Node) -> tuple[str, str]:
    options = re.findall(r"'([^']*)'", detail["ctx"]["expected"]) or [str(detail["ctx"]["expected"])]
    if isinstance(node, Scalar) and not isinstance(scalar_value(str(node.value)), str) and str(node.value) in options:
        quotes = "without quotes" if isinstance(node.value, str) else "in quotes"
        return f"cannot be {shown(node)}", f"write {node.value}, {quotes}"
    hint = did_you_mean(str(plain(node)), options, "one of: " + ", ".join(options))
    return f"cannot be {shown(node)}", hint if "one of" in hint else f"{hint} one of: {', '.join(options)}"


def _value(detail: Any, node: Node) -> tuple[str, str]:
    return f"is not right: {detail['msg'].removeprefix('Value error, ')}", ""


def _pattern(detail: Any, node: Node) -> tuple[str, str]:
    hints = {
        project.PROJECT_NAME: ("is no project name", "lower-case letters, digits and hyphens, a letter first"),
        project.HANDLER: ("is no handler", "write `package.module:function`"),
        project.IDENTIFIER: ("is no name", "letters, digits and _, no digit first"),
        project.PREFIX: ("is no prefix", "begin it with / and end it with none, such as /api; no parameters"),
        r"^[0-9]{12}$": ("is no account id", "twelve digits, in quotes"),
        r"^[a-z_][a-z0-9_]*$": ("is no name of a table", "lower-case letters, digits and _, no digit first"),
        AWS_REGION: ("is no region of AWS", "such as us-east-1 or eu-central-1"),
        AWS_ROLE: ("is no role", "its ARN, such as arn:aws:iam::123456789012:role/deploy"),
        URL: ("is no URL", "such as redis://host:6379/0 or file://folder"),
    }
    words, hint = hints.get(detail["ctx"]["pattern"], ("has the wrong form", ""))
    if detail["loc"][:2] in (("retry", "only"), ("retry", "never")) and isinstance(text := plain(node), str):
        own = text if text in EXCEPTIONS else closest(text, EXCEPTIONS)
        meant = f'did you mean "builtins:{own}"?' if own else _handler_hint(text)
        return f"is no exception: {shown(node)}", meant or "write `package.module:Class`"
    if detail["ctx"]["pattern"] == project.HANDLER and isinstance(plain(node), str):
        hint = _handler_hint(plain(node)) or hint
    return f"{words}: {shown(node)}", hint


EXCEPTIONS = frozenset(n for n, thing in vars(builtins).items() if is_exception(thing))
"""The names of Python's own."""


def _handler_hint(text: str) -> str:
    """A handler in the words of another tool, in ours; empty when it cannot be told."""
    if text in dir(builtins):
        return f'write "builtins:{text}"'
    module, colon, name = text.removesuffix("()").removeprefix("./").partition(":")
    if not colon:
        module, _, name = module.rpartition(".")
    module = module.removesuffix(".py").replace("/", ".")
    meant = f"{module}:{name}"
    return f"write {meant}" if module and re.fullmatch(project.HANDLER, meant) else ""


_PATTERN_CODES = {project.PROJECT_NAME: "BF207", project.HANDLER: "BF301", project.IDENTIFIER: "BF207"}


def _bound(words: str, key: str) -> Callable[[Any, Node], tuple[str, str]]:
    def bound(detail: Any, node: Node) -> tuple[str, str]:
        limit, text = detail["ctx"][key], plain(node)
        if isinstance(text, str) and DURATION.fullmatch(text):
            return f"has to be {words} {in_words(limit)}, this is {text}", ""
        return f"has to be {words} {limit:g}, this is {shown(node)}", ""

    return bound


def _empty(detail: Any, node: Node) -> tuple[str, str]:
    return "is empty", ""


_WRONG_VALUE: dict[str, Callable[[Any, Node], tuple[str, str]]] = {
    "literal_error": _literal,
    "value_error": _value,
    "string_pattern_mismatch": _pattern,
    "greater_than": _bound("more than", "gt"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than": _bound("less than", "lt"),
    "less_than_equal": _bound("at most", "le"),
    "too_short": _empty,
    "string_too_short": _empty,
}
