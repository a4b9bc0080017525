"""What `check --fix` does to a text: edits, round by round, as long as the file is no worse for them."""

from collections.abc import Callable
from dataclasses import dataclass

from buildflow.compiler import Compilation
from buildflow.compiler.fix import Edit, edits, replaced
from buildflow.diagnostics import Severity

Compile = Callable[[str], Compilation]
"""What a text in the place of the file would mean."""


@dataclass(frozen=True)
class Cured:
    """A text, what was changed in it, and what it means now. `left` was not changed: it would make the file worse."""

    text: str
    result: Compilation
    done: tuple[Edit, ...] = ()
    left: tuple[Edit, ...] = ()


MAX_ROUNDS = 10
"""A cure may bring the next mistake to light so many times: a section's name, a key in it, a name in that."""

MAX_TRIALS = 200


def cured(text: str, result: Compilation, compile: Compile) -> Cured:
    """All cures that leave the text with no more errors than it has."""
    whole = _round_by_round(Cured(text, result), compile)
    return whole if errors(whole.result) <= errors(result) else _one_by_one(Cured(text, result), compile)


def errors(result: Compilation) -> int:
    return sum(d.severity is Severity.ERROR for d in result.diagnostics)


def _round_by_round(start: Cured, compile: Compile) -> Cured:
    state = start
    for _ in range(MAX_ROUNDS):
        after = _applied(state, [e for e in edits(state.result) if e not in state.left], compile)
        if wrong := [e for e in after.done[len(state.done) :] if _names_another(e, after)]:
            after = Cured(state.text, state.result, state.done, (*state.left, *wrong))
        if after is state:
            break
        state = after
    return state


def _one_by_one(start: Cured, compile: Compile) -> Cured:
    """For when some cure brings more mistakes to light than there were: that one is left."""
    state = start
    for _ in range(MAX_TRIALS):
        edit = next((e for e in edits(state.result) if e not in state.left), None)
        if edit is None:
            break
        after = _applied(state, [edit], compile)
        worse = errors(after.result) > errors(state.result) or _names_another(edit, after)
        state = Cured(state.text, state.result, state.done, (*state.left, edit)) if worse else after
    return state


def _applied(state: Cured, chosen: list[Edit], compile: Compile) -> Cured:
    if not chosen:
        return state
    text = replaced(state.text, chosen)
    return Cured(text, compile(text), (*state.done, *chosen), state.left)


_WRONG_ONE = {"BF211", "BF212", "BF213"}
"""Codes that say: there is something of that name, and it is no such thing as is needed here."""


def _names_another(edit: Edit, after: Cured) -> bool:
    """Whether the new word names something that does not fit at its place."""
    found = (d for d in after.result.diagnostics if d.code in _WRONG_ONE and d.span.line == edit.span.line)
    return any(f'"{edit.new}"' in d.message for d in found)
