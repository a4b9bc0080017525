"""What a typed queue or topic carries, against what handlers take and give: field by field."""

from collections.abc import Iterable, Iterator

from buildflow.binding.columns import KINDS, MESSAGE, Unfit, each_row, is_response
from buildflow.ir.signature import Parameter, Shape

_ANYTHING = {"unknown", "mapping", "bytes", "string", "named"}
"""What an element may always be taken as, or what nothing is known about."""


def check_taken(parameter: Parameter, message: Shape, source: str) -> list[Unfit]:
    """A handler's parameter for the element against the type of its source's messages."""
    shape = _element(parameter.shape)
    options = [_element(option) for option in shape.options] or [shape]
    if any(option.kind in _ANYTHING or option.name == message.name for option in options):
        return []
    if shape.kind != "record" or message.kind != "record":
        words = f'parameter "{parameter.name}" takes {shape.text}, "{source}" carries {message.text}'
        return [Unfit("BF214", words, f"annotate it with {message.text}", parameter.place)]
    differences = list(_differences(shape, message))
    if not differences:
        return []
    words = f'parameter "{parameter.name}" takes {shape.text}, "{source}" carries {message.text}'
    hint = f"annotate it with {message.text}, or change {shape.text}"
    return [Unfit("BF214", f"{words}: {', '.join(differences)}", hint, parameter.place)]


def check_given(returns: Shape, message: Shape, sink: str) -> list[Unfit]:
    """What a handler returns against the type of its sink's messages."""
    found: list[Unfit] = []
    for row in each_row(returns):
        shape = (row.item or Shape(kind="unknown")) if row.name == MESSAGE else row
        if is_response(shape):
            found.append(
                Unfit("BF215", f'it returns {shape.text}, "{sink}" carries {message.text}', "return the message")
            )
        elif shape.kind in _ANYTHING or shape.name == message.name:
            continue
        elif shape.kind == "none":
            found.append(Unfit("BF215", f'it returns nothing, so nothing reaches "{sink}"', "return a message"))
        elif shape.kind != "record" or message.kind != "record":
            words = f'it returns {shape.text}, "{sink}" carries {message.text}'
            found.append(Unfit("BF215", words, f"return {message.text}"))
        elif differences := list(_differences(shape, message)):
            words = f'it returns {shape.text}, "{sink}" carries {message.text}: {", ".join(differences)}'
            found.append(Unfit("BF215", words, f"return {message.text}, or change {shape.text}", shape.place))
    return found


def _element(shape: Shape) -> Shape:
    """Without the list of a batch and the envelope of a message."""
    if shape.is_batch or shape.name == MESSAGE:
        return _element(shape.item or Shape(kind="unknown"))
    return shape


def _differences(shape: Shape, message: Shape) -> Iterator[str]:
    """How a record differs from the message's type, in words."""
    own, carried = {f.name: f for f in shape.fields}, {f.name: f for f in message.fields}
    for name in carried:
        if name not in own:
            yield f'{shape.text} lacks "{name}"'
    for name, field in own.items():
        if name not in carried:
            if field.required:
                yield f'{shape.text} has "{name}"'
            continue
        mine, theirs = field.shape, carried[name].shape
        if KINDS.get(mine.kind) and KINDS.get(theirs.kind) and mine.kind != theirs.kind:
            yield f'"{name}" is {mine.text} in {shape.text} and {theirs.text} in {message.text}'


def fields_of(shape: Shape) -> Iterable[str] | None:
    """The fields that an element or a row surely has; None where that is not known."""
    shape = _element(shape)
    return [field.name for field in shape.fields] if shape.kind == "record" else None
