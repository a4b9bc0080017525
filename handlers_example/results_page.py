"""The results as a page for browsers without JavaScript. Every word from outside is escaped."""

from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import quote


def render(found: Mapping[str, Any]) -> str:
    """The whole page, from what `listing.collect` found."""
    entries = [_result(entry) for entry in found["results"]]
    failures = [_failure(entry) for entry in found["failures"]]
    return PAGE.format(
        count=len(entries),
        rows="\n".join(entries) or '<tr><td colspan="5">No picture has been labelled yet.</td></tr>',
        failures=FAILURES.format(rows="\n".join(failures)) if failures else "",
    )


def _result(entry: Mapping[str, Any]) -> str:
    labels = "".join(
        f"<tr><th scope='row'>{escape(label['label'])}</th>"
        f"<td><meter min='0' max='1' value='{label['confidence']:.4f}'></meter></td>"
        f"<td class='number'>{label['confidence']:.1%}</td></tr>"
        for label in entry["classifications"]
    )
    table = f"<table class='labels'>{labels}</table>"
    return f"<tr>{_picture(entry)}<td>{table}</td><td>{escape(entry['model'])}</td>{_time(entry)}</tr>"


def _failure(entry: Mapping[str, Any]) -> str:
    return f"<tr>{_picture(entry)}<td>{escape(entry['reason'])}</td>{_time(entry)}</tr>"


def _picture(entry: Mapping[str, Any]) -> str:
    address = escape(f"/images/{quote(entry['image_path'])}")
    name = escape(entry["image_name"])
    return f"<td><img src='{address}' alt='' loading='lazy'></td><th scope='row'>{name}</th>"


def _time(entry: Mapping[str, Any]) -> str:
    moment = str(entry["upload_time"])
    return f"<td><time datetime='{escape(moment)}'>{escape(moment[:19].replace('T', ' '))} UTC</time></td>"


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What the model saw</title>
<link rel="icon" href="/static/favicon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/style.css">
</head>
<body class="results-page">
<header><h1>What the model saw</h1>
<p><a href="/">Upload pictures</a> · <a href="/image-upload-results">Reload</a></p></header>
<main>
<div class="scroll" tabindex="0" role="region" aria-label="Results">
<table class="results">
<caption>Newest pictures: {count}</caption>
<thead><tr><th scope="col">Picture</th><th scope="col">Name</th><th scope="col">Labels</th>
<th scope="col">Model</th><th scope="col">Uploaded</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
{failures}
</main>
</body>
</html>
"""

FAILURES = """<h2>Could not be labelled</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Failures">
<table class="results failures">
<thead><tr><th scope="col">Picture</th><th scope="col">Name</th><th scope="col">Reason</th>
<th scope="col">Uploaded</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
"""
