from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from pydantic import BaseModel

Json = Union[dict[str, "Json"], list["Json"], str, int, None]


@dataclass
class Tree:
    name: str
    children: list[Tree]
    parent: Tree | None = None


class Node(BaseModel):
    left: "Node | None" = None
    right: "Node | None" = None


def trees(tree: Tree) -> Tree: ...
def nodes(node: Node) -> list[Node]: ...
def json(value: Json) -> Json: ...
