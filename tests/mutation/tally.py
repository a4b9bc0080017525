"""How often the first suggestion is right, over all projects and all processes that the tests run in."""

import json
from collections import Counter
from pathlib import Path

from tests.mutation.projects import Project, projects

RIGHT = 0.9
"""The part of misspelt names whose first suggestion has to be the name that was meant."""


def judge(project: Project, tally: Counter[str], shared: Path) -> None:
    """Put the figures of this project to the others; the last one judges them all."""
    part = shared / f"{project.name}.tmp"
    part.write_text(json.dumps(tally))
    part.rename(part.with_suffix(".json"))
    parts = list(shared.glob("*.json"))
    if len(parts) == len(projects()):
        total = sum((Counter(json.loads(file.read_text())) for file in parts), Counter())
        print(table(total))
        met, right = (sum(n for key, n in total.items() if key.endswith(word)) for word in (": met", ": right"))
        assert right / met >= RIGHT, table(total)


def table(total: Counter[str]) -> str:
    kinds = sorted(key.removesuffix(": met") for key in total if key.endswith(": met"))
    rows = [(kind, total[f"{kind}: met"], total[f"{kind}: right"]) for kind in kinds]
    rows.append(("all", sum(met for _, met, _ in rows), sum(right for *_, right in rows)))
    return "\n".join(f"{kind:40} {right:5} of {met:5}  {right / met:4.0%}" for kind, met, right in rows)
