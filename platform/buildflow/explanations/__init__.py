"""What every code means: a file of Markdown each, with a wrong and a right example that the tests compile.

# unknown key            the code's title
What it means ...        a few lines
## Wrong                 fenced blocks; the second word behind the fence is the file's name
## Right
"""

import re
from dataclasses import dataclass
from pathlib import Path

from buildflow.diagnostics import CODES

_FOLDER = Path(__file__).parent
_BLOCK = re.compile(r"^```(?P<language>\w+)(?: (?P<file>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One part of an example: a file's text, or (without a name) what somebody does in a terminal."""

    language: str
    file: str
    text: str


@dataclass(frozen=True)
class Explanation:
    """One code. `text` is what its Markdown says before the examples, a line a paragraph."""

    code: str
    markdown: str
    text: str
    wrong: tuple[Block, ...]
    right: tuple[Block, ...]

    @property
    def title(self) -> str:
        return CODES[self.code]


def explanation(code: str) -> Explanation:
    """What one of `CODES` means."""
    markdown = (_FOLDER / f"{code}.md").read_text("utf-8")
    head, _, examples = markdown.partition("\n## Wrong\n")
    wrong, _, right = examples.partition("\n## Right\n")
    return Explanation(code, markdown, _paragraphs(head.partition("\n")[2]), _blocks(wrong), _blocks(right))


def files(example: tuple[Block, ...]) -> dict[str, str]:
    """An example as a small project: the text of each file by its name."""
    return {block.file: block.text for block in example if block.file}


def _paragraphs(text: str) -> str:
    """Each on one line: who shows it breaks it."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text.strip())


def _blocks(markdown: str) -> tuple[Block, ...]:
    return tuple(Block(b["language"], b["file"] or "", b["text"]) for b in _BLOCK.finditer(markdown))
