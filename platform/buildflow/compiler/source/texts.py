"""Expressions as text, and text as expressions."""

import ast


def text_of(node: ast.expr) -> str:
    """An annotation as `ast.unparse` writes it, ten times as fast for those that are usual."""
    return _text(node) or _unparsed(node)


def _text(node: ast.expr) -> str:
    """The text of what is usual, "" for the rest."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        outer = _text(node.value)
        return f"{outer}.{node.attr}" if outer else ""
    if isinstance(node, ast.Subscript):
        outer, inner = _text(node.value), _inner(node.slice)
        return f"{outer}[{inner}]" if outer and inner else ""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and not isinstance(node.right, ast.BinOp):
        left, right = _text(node.left), _text(node.right)
        return f"{left} | {right}" if left and right else ""
    if isinstance(node, ast.Constant):
        return "..." if node.value is ... else "None" if node.value is None else ""
    return ""


def _inner(node: ast.expr) -> str:
    parts = [_text(part) for part in node.elts] if isinstance(node, ast.Tuple) else [_text(node)]
    is_alone = isinstance(node, ast.Tuple) and len(parts) == 1  # unparsed with a comma
    return ", ".join(parts) if all(parts) and not is_alone else ""


def _unparsed(node: ast.expr) -> str:
    try:
        return ast.unparse(node)
    except RecursionError:
        return "..."


def parsed(text: str) -> ast.expr | None:
    """A string annotation as an expression; None where it is none."""
    try:
        return ast.parse(f"({text.strip()})", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def arguments_of(node: ast.Subscript) -> list[ast.expr]:
    """What stands in the brackets: `A, B` in `X[A, B]`."""
    return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) and node.slice.elts else [node.slice]


def keyword(node: ast.Call, *names: str) -> ast.expr | None:
    """The first of the named arguments that a call gives."""
    return next((k.value for k in node.keywords if k.arg in names), None)


def string(node: ast.expr | None) -> str:
    """The text that a constant holds, "" for all else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def number_of(node: ast.expr | None) -> tuple[bool, str | int | float | bool | None]:
    """Whether an expression is a constant that YAML could hold, and its value."""
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        sign, node = (-1 if isinstance(node.op, ast.USub) else 1), node.operand
        if not isinstance(node, ast.Constant) or type(node.value) not in (int, float):
            return False, None
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str | int | float | bool | None):
        return False, None
    return True, -node.value if sign < 0 and isinstance(node.value, int | float) else node.value


def is_false(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is False
