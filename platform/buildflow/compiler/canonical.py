"""Document to canonical Document: short forms written out, old names renamed, a stack's overlay laid over."""

from dataclasses import replace

from buildflow.diagnostics import Diagnostic, Span, misspelt
from buildflow.spec.document import Mapping, Pair, Scalar, Sequence
from buildflow.spec.project import OVERLAYS, Stack

FORMAT = 1
LOCAL = "local"


def canonicalize(root: Mapping) -> tuple[Mapping, list[Diagnostic]]:
    """The one form that later stages know: `project`, long routes, `stacks`."""
    found: list[Diagnostic] = []
    root = Mapping({k: p for k, p in root.pairs.items() if not k.startswith("x-")}, root.span)
    for step in (_format, _include, _name, _pulumi_config, _original, _default_stack, _routes_everywhere):
        root = step(root, found)
    return root, found


def _format(root: Mapping, found: list[Diagnostic]) -> Mapping:
    node = root.get("format")
    if isinstance(node, Scalar) and isinstance(node.value, bool):
        found.append(Diagnostic("BF203", "`format` has to be a whole number", node.span, "write `format: 1`"))
        return root.without("format")
    if isinstance(node, Scalar) and isinstance(node.value, int) and node.value > FORMAT:
        message = f"this file is written in format {node.value}; this version reads format {FORMAT}"
        found.append(Diagnostic("BF106", message, node.span, "pip install --upgrade buildflow-platform"))
        return root.without("format")
    return root


def _include(root: Mapping, found: list[Diagnostic]) -> Mapping:
    pair = root.pairs.get("include")
    if pair is None:
        return root
    message = "`include` is reserved for a later version"
    found.append(Diagnostic("BF107", message, pair.key.span, "put everything into this file for now"))
    return root.without("include")


def _name(root: Mapping, found: list[Diagnostic]) -> Mapping:
    app, project = root.pairs.get("app"), root.pairs.get("project")
    if app is None:
        return root
    if project is not None:
        message = "`app` and `project` both name the project"
        found.append(Diagnostic("BF102", message, app.key.span, "keep `project`"))
        return root.without("app")
    return root.without("app").with_value("project", app.value, app.key.span)


def _pulumi_config(root: Mapping, found: list[Diagnostic]) -> Mapping:
    """The original's block: `pulumi_home`, `stacks: [{name, backend_url}]`, `default_stack`."""
    pair = root.pairs.get("pulumi_config")
    if pair is None:
        return root
    root = root.without("pulumi_config")
    block = pair.value
    if not isinstance(block, Mapping):
        hint = "write `pulumi_config: {pulumi_home: ..., stacks: [...]}`, or use the key `stacks` of the file itself"
        found.append(Diagnostic("BF203", "`pulumi_config` has to be a mapping", block.span, hint))
        return root
    for key, inner in block.pairs.items():
        if key not in _PULUMI_CONFIG:
            message = f'"{key}" is no key of pulumi_config'
            found.append(misspelt("BF201", message, inner.key.span, key, _PULUMI_CONFIG))
    root = _pulumi_stacks(root, block, found)
    default = block.pairs.get("default_stack")
    if default and "default_stack" not in root.pairs:
        root = root.with_value("default_stack", default.value, default.key.span)
    return root


_PULUMI_CONFIG = ("pulumi_home", "stacks", "default_stack")

_ORIGINAL = {
    "entry_point": "remove it: `routes:` and `consumers:` name the functions themselves",
    "build_ignores": "remove it: nothing is built",
    "cloud_provider_config": "write it below `stacks:`, such as `stacks: {aws: {provider: aws, aws: {...}}}`",
}
"""Keys of the original's buildflow.yaml that have another place here."""


def _original(root: Mapping, found: list[Diagnostic]) -> Mapping:
    for key in root.pairs.keys() & _ORIGINAL.keys():
        message = f"`{key}` belongs to the original BuildFlow"
        found.append(Diagnostic("BF107", message, root.pairs[key].key.span, _ORIGINAL[key]))
    return root.without(*_ORIGINAL)


def _pulumi_stacks(root: Mapping, block: Mapping, found: list[Diagnostic]) -> Mapping:
    node, home = block.get("stacks"), block.pairs.get("pulumi_home")
    if home and not (isinstance(home.value, Scalar) and isinstance(home.value.value, str)):
        found.append(Diagnostic("BF203", "`pulumi_home` has to be text", home.value.span, "write a folder"))
    stacks = root.get("stacks") or Mapping({}, root.span)
    if node is not None and not isinstance(node, Sequence):
        hint = "write `- name: local`; or use the key `stacks` of the file itself"
        found.append(Diagnostic("BF203", "`stacks` of pulumi_config has to be a list", node.span, hint))
    if not isinstance(stacks, Mapping):
        return root
    named: set[str] = set()
    for item in node.items if isinstance(node, Sequence) else ():
        name = item.get("name") if isinstance(item, Mapping) else None
        if not isinstance(item, Mapping) or not isinstance(name, Scalar) or not isinstance(name.value, str):
            message = "a stack of pulumi_config needs a `name`"
            found.append(Diagnostic("BF202", message, item.span, "write `- name: local`"))
            continue
        if name.value in named:
            message = f'pulumi_config has a stack "{name.value}" already'
            found.append(Diagnostic("BF102", message, name.span, "keep one of them, or rename one"))
        elif name.value in stacks.pairs:
            message = f'the stack "{name.value}" stands below `stacks` too'
            found.append(Diagnostic("BF102", message, name.span, "keep the one below `stacks`"))
        named.add(name.value)
        if name.value not in stacks.pairs:
            body = item.without("name")
            if "provider" not in body.pairs:
                body = body.with_value("provider", Scalar(LOCAL, name.span))
            if home and "pulumi_home" not in body.pairs:
                body = body.with_value("pulumi_home", home.value, home.key.span)
            stacks = stacks.with_value(name.value, body, name.span)
    return root.with_value("stacks", stacks) if stacks.pairs else root


def _default_stack(root: Mapping, found: list[Diagnostic]) -> Mapping:
    """A file without stacks runs locally."""
    stacks = root.get("stacks")
    if stacks is not None and not (isinstance(stacks, Scalar) and stacks.value is None):
        return root
    span = replace(root.span, end_line=root.span.line, end_column=root.span.column)
    body = Mapping({"provider": Pair(Scalar("provider", span), Scalar(LOCAL, span))}, span)
    return root.with_value("stacks", Mapping({LOCAL: Pair(Scalar(LOCAL, span), body)}, span))


def _routes_everywhere(root: Mapping, found: list[Diagnostic]) -> Mapping:
    root = _long_routes(root, found)
    stacks = root.get("stacks")
    if isinstance(stacks, Mapping):
        pairs = {
            name: Pair(pair.key, _long_routes(pair.value, found) if isinstance(pair.value, Mapping) else pair.value)
            for name, pair in stacks.pairs.items()
        }
        root = root.with_value("stacks", Mapping(pairs, stacks.span))
    return root


def _long_routes(parent: Mapping, found: list[Diagnostic]) -> Mapping:
    """`GET /: app:index` becomes `GET /: {handler: app:index}`; the method in upper case."""
    routes = parent.get("routes")
    if not isinstance(routes, Mapping):
        return parent
    pairs: dict[str, Pair] = {}
    for name, pair in routes.pairs.items():
        method, space, path = name.partition(" ")
        value = pair.value
        if isinstance(value, Scalar) and value.value is not None:
            value = Mapping({"handler": Pair(Scalar("handler", value.span), value)}, value.span)
        long = f"{method.upper()}{space}{path}"
        if long in pairs:
            message = f'"{name}" and "{pairs[long].key.value}" answer the same requests'
            found.append(Diagnostic("BF218", message, pair.key.span, "keep one of them"))
            continue
        pairs[long] = Pair(pair.key, value)
    return parent.with_value("routes", Mapping(pairs, routes.span))


def stack_names(root: Mapping) -> dict[str, Span]:
    stacks = root.get("stacks")
    return {name: pair.key.span for name, pair in stacks.pairs.items()} if isinstance(stacks, Mapping) else {}


def stack_keys() -> set[str]:
    """Every key that may stand below a stack."""
    return set(Stack.model_fields) | set(OVERLAYS)
