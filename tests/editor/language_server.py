"""An editor without a window: what its user sees of a file, from the real yaml-language-server."""

import itertools
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.editor.connection import PATIENCE, Connection

CURSOR = "‸"
"""Marks the cursor in a text."""

CAPABILITIES = {
    "workspace": {"configuration": True},
    "textDocument": {
        "completion": {"completionItem": {"snippetSupport": True, "documentationFormat": ["markdown"]}},
        "hover": {"contentFormat": ["markdown"]},
        "publishDiagnostics": {},
    },
}


@dataclass(frozen=True, order=True)
class Squiggle:
    """One complaint: its line (from 1), the text that it underlines, and what it says."""

    line: int
    text: str
    message: str


class LanguageServer:
    """One running server. `schemas` is what it is told: which schema is for which files. A context manager."""

    def __init__(self, folder: Path, schemas: Mapping[str, str]) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = {
            "schemas": dict(schemas),
            "schemaStore": {"enable": False},
            "kubernetesCRDStore": {"enable": False},
            "hoverSchemaSource": False,
        }
        self.configured = threading.Event()
        self.names = (f"file{number}.yaml" for number in itertools.count(1))
        self.connection = Connection(self._reply)

    def __enter__(self) -> "LanguageServer":
        folder = {"uri": self.folder.as_uri(), "name": "project"}
        start = {"processId": os.getpid(), "rootUri": folder["uri"], "workspaceFolders": [folder]}
        self.connection.request("initialize", {**start, "capabilities": CAPABILITIES})
        self.connection.notify("initialized", {})
        assert self.configured.wait(PATIENCE)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.connection.close()

    def squiggles(self, text: str, name: str = "") -> list[Squiggle]:
        """What is underlined in a file with this text, in its order."""
        name = name or next(self.names)
        return self.squiggles_of({name: text})[name]

    def squiggles_of(self, texts: dict[str, str]) -> dict[str, list[Squiggle]]:
        """What is underlined in each of several files, by name. They are open at the same time."""
        opened = {name: self._open(text, name) for name, text in texts.items()}
        return {name: sorted(map(squiggle_in(texts[name]), self._problems(uri))) for name, uri in opened.items()}

    def completions(self, text: str) -> dict[str, dict[str, Any]]:
        """What is offered at the cursor, by label."""
        (answer,) = self._at_cursors("textDocument/completion", text)
        return {item["label"]: item for item in answer["items"]}

    def hovers(self, text: str) -> list[str]:
        """What is shown about the word at each cursor, as Markdown."""
        answers = self._at_cursors("textDocument/hover", text)
        return [str(answer["contents"]["value"]) if answer else "" for answer in answers]

    def _at_cursors(self, method: str, text: str) -> list[Any]:
        uri = self._open(text.replace(CURSOR, ""), next(self.names))
        *parts, _ = text.split(CURSOR)
        before = ["".join(parts[: number + 1]) for number in range(len(parts))]
        positions = [{"line": b.count("\n"), "character": len(b) - b.rfind("\n") - 1} for b in before]
        places = [{"textDocument": {"uri": uri}, "position": position} for position in positions]
        return [self.connection.request(method, place) for place in places]

    def _open(self, text: str, name: str) -> str:
        uri = (self.folder / name).as_uri()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self.connection.notify("textDocument/didOpen", {"textDocument": document})
        return uri

    def _problems(self, uri: str) -> list[Any]:
        told = self.connection.wait_for("textDocument/publishDiagnostics", uri)
        return list(told["diagnostics"])

    def _reply(self, method: str, params: dict[str, Any]) -> Any:
        """The server asks for its settings, and to be told of changes."""
        if method != "workspace/configuration":
            return None
        self.configured.set()
        return [self.settings if item["section"] == "yaml" else None for item in params["items"]]


def squiggle_in(text: str) -> Callable[[Any], Squiggle]:
    """Reads the server's complaints about a text."""
    lines = text.splitlines()

    def read(diagnostic: Any) -> Squiggle:
        start, end = diagnostic["range"]["start"], diagnostic["range"]["end"]
        line = lines[start["line"]] if start["line"] < len(lines) else ""
        last = end["character"] if end["line"] == start["line"] else None
        return Squiggle(start["line"] + 1, line[start["character"] : last], diagnostic["message"])

    return read
