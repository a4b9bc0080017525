"""`platform check --fix`: what is misspelt becomes what was meant; every other byte of the file stays."""

import dataclasses
import json
import os
import stat
from functools import partial
from pathlib import Path

import pytest
import yaml

from buildflow.cli.fix import fix
from buildflow.compiler import Compilation, compile_file
from buildflow.compiler.cure import errors
from buildflow.compiler.fix import edits, replaced
from buildflow.diagnostics import Diagnostic, Replacement, Span
from buildflow.errors import BuildflowError
from buildflow.explanations import explanation, files
from tests.harness import platform

RIGHT = """\
# the shop ☕
project: shop
default_stack: local   # where we work
stacks:
  local: {provider: local}
  'cloud':
    provider: aws
    aws: {region: eu-central-1}
    primitives:
      images: {force_destroy: true}

variables: {region: eu, größe: 5}


primitives:
  images: {type: bucket, name: "images-${var.region}"}
  uploads:
    type: file_change_stream
    "bucket": images
    events: [created, deleted]
  orders:   {type: queue,   lease: 5m}   # 注文
  sales: {type: table, columns: app:Sale}
  notes: {type: table, columns: {note: string?}}
dependencies:
  payments: {factory: app:Payments, with: {currency: "EUR", bucket: "${primitives.images.url}"}}
services:
  api: {prefix: /api, cors: {origins: ["*"]}}
routes:
  GET /: {handler: app:index, service: api, summary: "a \\u2603"}
consumers:
  resize: {source: uploads, handler: app:resize}
  save: {source: orders, handler: 'app:save', sink: sales, retry: {attempts: 3}}
"""

APP = """\
from dataclasses import dataclass

@dataclass
class Sale:
    id: int

class Payments:
    def __init__(self, currency, bucket): ...

def index(payments, notes): ...
def resize(event): ...
def save(order) -> Sale: ...
"""


def project(folder: Path, text: str) -> Path:
    (folder / "app.py").write_text(APP)
    (folder / "buildflow.yaml").write_bytes(text.encode())
    return folder


def fixed(folder: Path, monkeypatch: pytest.MonkeyPatch, *, all_stacks: bool = False) -> Compilation:
    """The project of a folder after `check --fix`."""
    monkeypatch.chdir(folder)
    file = Path("buildflow.yaml")
    compile = partial(compile_file, all_stacks=all_stacks)
    return fix(file, compile(file), compile)


def after(folder: Path) -> str:
    return (folder / "buildflow.yaml").read_bytes().decode()


def test_the_right_file_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(tmp_path, RIGHT.replace(", größe: 5", "")))
    assert compile_file(Path("buildflow.yaml")).diagnostics == ()


TYPOS = {
    "a key of the root": ("primitives:\n  images: {type", "primitves:\n  images: {type"),
    "a key of the root, in quotes": ("options:", '"optins":'),
    "a key in a section": ("default_stack:", "defaultstack:"),
    "a key of a primitive, flow style": ("lease: 5m", "leese: 5m"),
    "a key of a primitive, block style": ("    events:", "    evnets:"),
    "a key in double quotes": ('"bucket": images', '"bukcet": images'),
    "a key deep below": ("cors: {origins", "cors: {orgins"),
    "a key of a provider's settings": ("aws: {region", "aws: {regoin"),
    "a key in a stack's overlay": ("force_destroy: true", "force_destory: true"),
    "what a stack's overlay is for": ("      images: {force", "      imagse: {force"),
    "a section in a stack": ("    primitives:\n      images", "    primitvies:\n      images"),
    "a type": ("type: bucket, name", "type: buckt, name"),
    "a reference": ('"bucket": images', '"bucket": imagse'),
    "a source": ("source: orders", "source: oders"),
    "a sink": ("sink: sales", "sink: slaes"),
    "a service": ("service: api", "service: ap"),
    "a word out of a few": ("created, deleted", "created, delted"),
    "a provider": ("provider: aws", "provider: awss"),
    "the default stack": ("default_stack: local", "default_stack: locla"),
    "a column's type": ("note: string?", "note: strng?"),
    "an argument of a factory": ('currency: "EUR"', 'curency: "EUR"'),
    "an output": ("${primitives.images.url}", "${primitives.imags.url}"),
    "a variable in a text": ("images-${var.region}", "images-${var.regoin}"),
    "the root of a reference": ("images-${var.region}", "images-${vra.region}"),
}


@pytest.mark.parametrize("name", TYPOS)
@pytest.mark.parametrize("line_break", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_a_misspelling_is_put_right(
    name: str, line_break: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = RIGHT.replace(", größe: 5", "").replace("variables:", "options: {log_level: DEBUG}\nvariables:")
    meant, written = TYPOS[name]
    if name == "a key of the root, in quotes":
        right = right.replace("options:", '"options":')
        meant = '"options":'
    assert right.count(meant) == 1
    folder = project(tmp_path, right.replace(meant, written).replace("\n", line_break))
    assert fixed(folder, monkeypatch).diagnostics == ()
    assert after(folder) == right.replace("\n", line_break)


@pytest.mark.parametrize(
    ("written", "old", "new", "expected"),
    [
        ("app:resiez", "resiez", "resize", "app:resize"),
        ("'app:resiez'", "resiez", "resize", "'app:resize'"),
        ('"ap.app:app"', "ap", "app", '"app.app:app"'),
        ("shop.wbe:wbe_page", "wbe", "web", "shop.web:wbe_page"),
        ("shop.wbe:wbe", "wbe", "web", None),
        ("app:resiez", "app:resiez", "app:resize", "app:resize"),
        ("app:a", "a", "b", "app:b"),
        ("app:resiez", "resiez", "resize: 1", None),
        ("app:resiez", "resiez", "resize # 1", None),
        ("app:resiez", "resiez", "", None),
        ("app:resiez", "app:resiez", "*", None),
        ("app:resiez", "app:resiez", "1", None),
        ("&resiez resiez", "resiez", "resize", "&resiez resize"),
    ],
)
def test_one_word_of_a_value_is_replaced_where_it_stands_once(
    written: str, old: str, new: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reports a mistake says which word of the value it is about."""
    text = f"project: shop\nroutes: {{GET /: {written}}}  # {old}\n"
    monkeypatch.chdir(project(tmp_path, text))
    result = compile_file(Path("buildflow.yaml"))
    span = Span("buildflow.yaml", 2, 17, 2, 17 + len(written))
    mistake = Diagnostic("BF303", "", span, fix=Replacement(span, old, new))
    chosen = edits(dataclasses.replace(result, diagnostics=(mistake,)))
    assert replaced(text, chosen) == (text.replace(written, expected, 1) if expected else text)


def test_of_cures_that_overlap_the_first_is_applied_and_of_two_that_disagree_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "project: shop\nroutes: {GET /: ap.wbe:indx}\n"
    monkeypatch.chdir(project(tmp_path, text))
    result = compile_file(Path("buildflow.yaml"))
    span = Span("buildflow.yaml", 2, 17, 2, 28)

    def after_both(*cures: tuple[str, str]) -> str:
        found = tuple(Diagnostic("BF303", "", span, fix=Replacement(span, *cure)) for cure in cures)
        return replaced(text, edits(dataclasses.replace(result, diagnostics=found)))

    assert after_both(("wbe", "web"), ("ap", "app")) == text.replace("ap.wbe", "app.web")
    assert after_both(("wbe:indx", "web:index"), ("ap.wbe", "app.web")) == text.replace("ap.wbe", "app.web")
    assert after_both(("indx", "index"), ("indx", "index")) == text.replace("indx", "index")
    assert after_both(("indx", "index"), ("indx", "indy")) == text


def test_several_at_once_on_one_line_and_one_behind_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt section hides what is in it; a misspelt type, what is beside it."""
    text = "project: shop\nprimitves:\n  '注': {type: x}\n  orders: {type: qeue, leese: 5m, retenton: 1d}\n"
    text += "consumers: {save: {sorce: oders, hander: app:save}}\n"
    folder = project(tmp_path, text)
    left = fixed(folder, monkeypatch)
    assert [d.code for d in left.diagnostics] == ["BF207", "BF205"]
    assert after(folder) == (
        "project: shop\nprimitives:\n  '注': {type: x}\n  orders: {type: queue, lease: 5m, retention: 1d}\n"
        "consumers: {save: {source: orders, handler: app:save}}\n"
    )
    said = capsys.readouterr().err
    assert "fixed buildflow.yaml:2:1  primitves -> primitives\n" in said
    assert "fixed buildflow.yaml:5:34  hander -> handler\n" in said
    assert said.count("fixed ") == 7


def test_a_byte_order_mark_and_a_missing_last_line_break_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(tmp_path, "\ufeffprojetc: shop\nroutes: {GET /: 'app:resize'}")
    fixed(folder, monkeypatch)
    assert after(folder) == "\ufeffproject: shop\nroutes: {GET /: 'app:resize'}"


def test_old_line_breaks_of_every_kind_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "project: shop\r# one\r\n# two\u2028primitves: {}\n\n\n"
    folder = project(tmp_path, text)
    fixed(folder, monkeypatch)
    assert after(folder) == text.replace("primitves", "primitives")


def test_what_a_merge_brings_in_is_put_right_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """\
project: shop
x-kept: &kept {force_destory: true}  # see force_destory below
primitives:
  images: {<<: *kept, type: bucket}
  photos: {type: bucket, <<: *kept}
"""
    folder = project(tmp_path, text)
    fixed(folder, monkeypatch)
    assert after(folder) == text.replace("{force_destory", "{force_destroy")


# what is not safe


NOT_SAFE = {
    "a key that is there already": "project: shop\nprimitives: {orders: {type: queue, lease: 5m, leese: 6m}}\n",
    "a word twice in one text": 'project: shop\nvariables: {b: "${var.aaab}-${var.aaab}", aaaa: 1}\n',
    "a word written with an escape": 'project: shop\nprimitives: {orders: {type: "que\\u0075", "l\\u0065ese": 5m}}\n',
    "a name of another stack": (
        "project: shop\nstacks: {local: {provider: local}, b: {provider: aws, primitives: {orderz: {type: queue}}}}\n"
        "primitives: {orders: {type: queue}}\nconsumers: {save: {source: orderz, handler: app:save}}\n"
    ),
    "a name of something that is no source": (
        "project: shop\nprimitives: {orders: {type: queue}, image: {type: bucket}}\n"
        "consumers: {save: {source: imag, handler: app:save}, b: {source: orders, handler: app:save}}\n"
    ),
    "a word of YAML's own": "project: shop\ndefault_stack: tru\nstacks: {'true': {provider: local}}\n",
    "a block text": "project: shop\ndefault_stack: |\n  locl\nstacks: {local: {provider: local}}\n",
    "nothing like it": "project: shop\nprimitives: {orders: {type: spaceship}}\n",
}


@pytest.mark.parametrize("name", NOT_SAFE)
def test_what_is_not_safe_is_left(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(tmp_path, NOT_SAFE[name])
    assert errors(fixed(folder, monkeypatch)) > 0
    assert after(folder) == NOT_SAFE[name]


def test_two_keys_that_mean_the_same_one_are_not_both_put_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project(tmp_path, "project: shop\nprimitives: {orders: {type: queue, leese: 5m, laese: 6m}}\n")
    assert [d.code for d in fixed(folder, monkeypatch).diagnostics] == ["BF201"]
    assert "lease: 5m, laese: 6m" in after(folder)


def test_a_cure_that_brings_more_mistakes_to_light_is_left_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the section hidden there are two mistakes; with it there would be three that nobody can cure."""
    text = "project: shop\ndefault_stack: locl\nstacks: {local: {provider: local}}\n"
    hidden = "primitves:\n  a: {type: spaceship}\n  b: {type: starship}\n  c: {type: airship}\n"
    folder = project(tmp_path, text + hidden)
    assert errors(fixed(folder, monkeypatch)) == 1
    assert after(folder) == text.replace("locl", "local") + hidden
    said = capsys.readouterr().err
    assert "fixed buildflow.yaml:2:16  locl -> local\n" in said
    assert "left  buildflow.yaml:4:1  primitves -> primitives: the file would be no better\n" in said


def test_python_is_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(tmp_path, "project: shop\nroutes: {'GET /{name}': 'app:hello'}\n")
    (folder / "app.py").write_text("def hello(nmae): ...\n")
    fixed(folder, monkeypatch)
    assert (folder / "app.py").read_text() == "def hello(nmae): ...\n"
    assert sorted(path.name for path in folder.iterdir()) == ["app.py", "buildflow.yaml"]


# the file itself


def test_with_nothing_to_put_right_the_file_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(tmp_path, "project: shop\nprimitives: {orders: {type: spaceship}}\n")
    before = (folder / "buildflow.yaml").stat()
    fixed(folder, monkeypatch)
    now = (folder / "buildflow.yaml").stat()
    assert (now.st_mtime_ns, now.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_the_file_keeps_its_mode_and_nothing_is_left_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(tmp_path, "projetc: shop\n")
    (folder / "buildflow.yaml").chmod(0o640)
    fixed(folder, monkeypatch)
    assert stat.S_IMODE((folder / "buildflow.yaml").stat().st_mode) == 0o640
    assert sorted(path.name for path in folder.iterdir()) == ["app.py", "buildflow.yaml"]


def test_a_link_stays_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    project(tmp_path / "real", "projetc: shop\nroutes: {GET /: 'app:resize'}\n")
    (tmp_path / "buildflow.yaml").symlink_to("real/buildflow.yaml")
    assert fixed(tmp_path, monkeypatch).diagnostics == ()
    assert (tmp_path / "buildflow.yaml").is_symlink()
    assert after(tmp_path / "real").startswith("project: shop")


def test_a_read_only_file_is_an_error_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(tmp_path, "projetc: shop\n")
    (folder / "buildflow.yaml").chmod(0o444)
    with pytest.raises(BuildflowError, match=r"buildflow\.yaml cannot be written: it is read-only"):
        fixed(folder, monkeypatch)
    assert after(folder) == "projetc: shop\n"
    assert sorted(path.name for path in folder.iterdir()) == ["app.py", "buildflow.yaml"]


def test_what_someone_wrote_meanwhile_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(tmp_path, "projetc: shop\n")
    monkeypatch.chdir(folder)
    file = Path("buildflow.yaml")

    def compile(path: Path, **more: object) -> Compilation:
        if path != file:
            file.write_text("projetc: theirs\n")
        return compile_file(path)

    with pytest.raises(BuildflowError, match="was changed meanwhile"):
        fix(file, compile_file(file), compile)
    assert after(folder) == "projetc: theirs\n"
    assert sorted(path.name for path in folder.iterdir()) == ["app.py", "buildflow.yaml"]


# the command


def test_the_command_says_what_it_changed_and_what_remains(tmp_path: Path) -> None:
    folder = project(tmp_path, "project: shop\nprimitves: {orders: {type: spaceship}}\n")
    result = platform(folder, "check", "--fix")
    assert (result.returncode, result.stdout) == (1, "")
    first, blank, *rest = result.stderr.splitlines()
    assert (first, blank) == ("fixed buildflow.yaml:2:1  primitves -> primitives", "")
    assert rest[0] == 'error[BF205]: there is no primitive type "spaceship"'
    again = platform(folder, "check", "--fix")
    assert again.stderr.splitlines() == rest


def test_the_command_prints_what_remains_as_json(tmp_path: Path) -> None:
    result = platform(project(tmp_path, "projetc: shop\n"), "check", "--fix", "--json")
    assert (result.returncode, json.loads(result.stdout)) == (0, {"ok": True, "diagnostics": []})
    assert result.stderr.startswith("fixed buildflow.yaml:1:1  projetc -> project\n")


def test_mistakes_in_the_values_of_another_stack_need_all_stacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """\
project: shop
default_stack: local
stacks:
  local: {provider: local}
  other:
    provider: local
    dependencies: {payments: {factory: app:Payments, with: {curency: EUR, bucket: b}}}
"""
    folder = project(tmp_path, text)
    fixed(folder, monkeypatch)
    assert after(folder) == text
    fixed(folder, monkeypatch, all_stacks=True)
    assert after(folder) == text.replace("curency", "currency")


# every mistake that the golden cases and the explanations know

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir() if (path / "buildflow.yaml").is_file())
EXPLAINED = sorted(path.stem for path in Path(explanation.__code__.co_filename).parent.glob("*.md"))


def events(text: str) -> list[tuple[object, ...]]:
    """What YAML sees in a text, comments aside."""
    found = yaml.parse(text, Loader=yaml.CSafeLoader)
    return [(type(e), getattr(e, "anchor", None), getattr(e, "style", None), getattr(e, "value", None)) for e in found]


def check_that_only_words_change(folder: Path, result: Compilation) -> None:
    chosen = edits(result)
    before = (folder / "buildflow.yaml").read_bytes().decode() if chosen else ""
    now = replaced(before, chosen)
    changed = [(a, b) for a, b in zip(events(before), events(now), strict=True) if a != b] if chosen else []
    places = {edit.span for edit in chosen}
    assert len(changed) <= len(places) == len(chosen)
    assert all(old[:3] == new[:3] for old, new in changed)
    lines = zip(before.splitlines(keepends=True), now.splitlines(keepends=True), strict=True)
    assert {n for n, (old, new) in enumerate(lines, 1) if old != new} == {e.span.line for e in chosen}


@pytest.mark.parametrize("name", CASES)
def test_in_every_golden_case_only_words_change(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN / name)
    given = json.loads(Path("arguments.json").read_text()) if Path("arguments.json").exists() else {}
    check_that_only_words_change(Path(), compile_file(Path("buildflow.yaml"), **{"environment": {}, **given}))


@pytest.mark.parametrize("code", EXPLAINED)
def test_no_wrong_example_gets_worse(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in files(explanation(code).wrong).items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    result = compile_file(Path("buildflow.yaml"), environment={})
    check_that_only_words_change(tmp_path, result)
    assert errors(fixed(tmp_path, monkeypatch)) <= errors(result)
    assert not [name for name in os.listdir() if name.startswith(".buildflow.yaml")]
