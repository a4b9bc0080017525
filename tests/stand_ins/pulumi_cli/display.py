"""What a deployment prints: lines for people, or the digest of `preview --json`."""

import json
import re
import sys
import time
from typing import Any

SIGNS = {
    "same": " ", "create": "+", "update": "~", "delete": "-", "replace": "+-", "create-replacement": "++",
    "delete-replaced": "--", "read": ">", "import": "=", "discard": "<", "refresh": "~",
}  # fmt: skip
DONE = {
    "same": "unchanged", "create": "created", "update": "updated", "delete": "deleted", "replace": "replaced",
    "read": "read", "import": "imported", "discard": "discarded",
}  # fmt: skip
WILL = {"create": "to create", "update": "to update", "delete": "to delete", "replace": "to replace"}


class Lines:
    """A line for every resource, then the diagnostics and the summary; simpler than the real CLI's tree."""

    def __init__(self) -> None:
        self._diagnostics: list[tuple[str, str]] = []
        self._began = time.monotonic()
        self._told: set[tuple[str, str]] = set()

    def send(self, event: dict[str, Any]) -> None:
        if "resOutputsEvent" in event:
            metadata = event["resOutputsEvent"]["metadata"]
            name = metadata["urn"].rsplit("::", 1)[1]
            if (metadata["urn"], metadata["op"]) in self._told:
                return  # a component is reported again with its outputs
            self._told.add((metadata["urn"], metadata["op"]))
            _print(f" {SIGNS.get(metadata['op'], ' '):<2} {_short(metadata['type'])} {name} {metadata['op']}")
        elif "diagnosticEvent" in event:
            content = event["diagnosticEvent"]
            text = f"{content['severity']}: {without_colours(content['message']).rstrip()}"
            self._diagnostics.append((content.get("urn", ""), text))
        elif "summaryEvent" in event:
            self._sum_up(event["summaryEvent"])

    def _sum_up(self, summary: dict[str, Any]) -> None:
        if self._diagnostics:
            _print("\nDiagnostics:")
        for urn, text in self._diagnostics:
            who = f"{_short(urn.split('::')[2].rsplit('$', 1)[-1])} ({urn.rsplit('::', 1)[1]}):" if urn else "pulumi:"
            _print(f"  {who}\n    " + text.replace("\n", "\n    "))
        _print("\nResources:")
        for op, count in summary["resourceChanges"].items():
            told = WILL.get(op, DONE.get(op, op)) if summary["isPreview"] else DONE.get(op, op)
            _print(f"    {SIGNS.get(op, ' ')} {count} {told}")
        if not summary["isPreview"]:
            _print(f"\nDuration: {int(time.monotonic() - self._began)}s")

    def close(self) -> None:
        sys.stdout.flush()


class Digest:
    """`preview --json`."""

    def __init__(self, config: dict[str, str]) -> None:
        self._digest: dict[str, Any] = {"config": config, "steps": [], "diagnostics": []}

    def send(self, event: dict[str, Any]) -> None:
        if "resourcePreEvent" in event:
            step = dict(event["resourcePreEvent"]["metadata"])
            names = {"old": "oldState", "new": "newState", "keys": "replaceReasons", "diffs": "diffReasons"}
            kept = {"op", "urn", "provider", "detailedDiff", *names}
            self._digest["steps"].append(
                {names.get(key, key): value for key, value in step.items() if key in kept and value is not None}
            )
        elif "diagnosticEvent" in event:
            self._digest["diagnostics"].append(event["diagnosticEvent"])
        elif "summaryEvent" in event:
            summary = event["summaryEvent"]
            self._digest["duration"] = summary["durationSeconds"] * 1_000_000_000
            self._digest["changeSummary"] = summary["resourceChanges"]

    def close(self) -> None:
        _print(json.dumps(self._digest, indent=4))


def without_colours(text: str) -> str:
    return re.sub(r"<\{%.*?%\}>", "", text)


def _short(token: str) -> str:
    """`aws:s3:Bucket` for `aws:s3/bucket:Bucket`."""
    package, _, rest = token.partition(":")
    module, _, name = rest.partition(":")
    return f"{package}:{module.split('/')[0]}:{name}"


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
