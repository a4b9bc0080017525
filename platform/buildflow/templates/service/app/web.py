"""The routes: plain functions. `notes` is the table of that name, `clock` the dependency."""

from typing import Any
from uuid import uuid4

from app.clock import Clock
from app.notes import NewNote, Note
from buildflow.exceptions import HTTPException
from buildflow.types import Table


def add_note(note: NewNote, notes: Table, clock: Clock) -> Note:
    """Store one note. The body is read and checked as `NewNote` says."""
    stored = Note(id=uuid4().hex, text=note.text, tags=note.tags, written_at=clock.now())
    notes.insert(stored)
    return stored


def list_notes(notes: Table, search: str = "", limit: int = 100) -> list[dict[str, Any]]:
    """The newest notes, those that hold `search`."""
    return notes.rows(where="contains(text, ?)", parameters=[search], order_by="written_at DESC", limit=limit)


def read_note(id: str, notes: Table) -> dict[str, Any]:
    """One note by its id."""
    found = notes.rows(where="id = ?", parameters=[id])
    if not found:
        raise HTTPException(404, f"There is no note {id}.")
    return found[0]
