"""The local bucket: a folder whose objects appear complete or not at all, and never outside it."""

import io
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from buildflow.errors import InvalidObjectName, ObjectNotFound, ResourceFailed
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Action
from buildflow.primitives.bucket import BucketSpec
from buildflow.primitives.bucket.local import DRIVER
from buildflow.primitives.bucket.local_handle import LocalBucket
from buildflow.primitives.bucket.object_names import HIDDEN
from buildflow.types import Bucket


@dataclass
class Session:
    """A stack that has no Redis: asking for it is a failure."""

    root: Path
    graph: ResourceGraph
    dir: Path = Path(".buildflow/local")
    namespace: str = "shop-local"

    def redis(self) -> Any:
        raise AssertionError("a bucket that nobody watches asked for Redis")

    def close(self) -> None: ...


def bucket(key: str = "images", name: str = "shop-local-images", **spec: Any) -> Resource:
    return Resource(
        key=key,
        type="bucket",
        provider="local",
        name=name,
        id="",
        label="LocalBucket",
        spec={"type": "bucket", **spec},
    )


def stack(root: Path, *resources: Resource) -> Session:
    return Session(root, ResourceGraph(project="shop", stack="local", resources=resources))


@pytest.fixture
def images(tmp_path: Path) -> LocalBucket:
    session = stack(tmp_path, bucket())
    DRIVER.create(bucket(), session)
    return DRIVER.handle(bucket(), session)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".buildflow/local/buckets/shop-local-images"


# The handle


def test_the_handle_is_a_bucket(images: LocalBucket) -> None:
    assert isinstance(images, Bucket)
    assert images.name == "shop-local-images"


def test_an_object_is_read_as_it_was_written(images: LocalBucket) -> None:
    info = images.write("2026/cat.png", b"meow")
    assert (info.path, info.size) == ("2026/cat.png", 4)
    assert images.read("2026/cat.png") == b"meow"
    assert images.info("2026/cat.png") == info
    assert images.exists("2026/cat.png")
    with images.open("2026/cat.png") as file:
        assert file.read(2) == b"me"
    assert images.local_path("2026/cat.png").read_bytes() == b"meow"


class Upload:
    """Looks like FastAPI's UploadFile."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    async def read(self, size: int = -1) -> bytes:
        return self.file.read(size)


@pytest.mark.parametrize(
    "data",
    [b"snow", bytearray(b"snow"), memoryview(b"snow"), "snow", io.BytesIO(b"snow"), Upload(b"snow")],
    ids=lambda data: type(data).__name__,
)
def test_whatever_holds_bytes_can_be_written(images: LocalBucket, data: Any) -> None:
    images.write("x", data)
    assert images.read("x") == b"snow"


def test_an_empty_object_is_an_object(images: LocalBucket) -> None:
    images.write("empty", b"")
    assert images.read("empty") == b""


def test_text_is_written_as_utf_8(images: LocalBucket) -> None:
    images.write("x", "Zoë")
    assert images.read("x") == "Zoë".encode()


@pytest.mark.parametrize("data", [7, None, io.StringIO("text"), ["a"]], ids=lambda data: type(data).__name__)
def test_what_is_no_bytes_is_refused_in_words(images: LocalBucket, folder: Path, data: Any) -> None:
    with pytest.raises(TypeError, match="a bucket stores"):
        images.write("x", data)
    assert not images.exists("x")
    assert list((folder / HIDDEN).iterdir()) == []


class Endless:
    """A file of `size` bytes that was never in memory, and counts how much of it is asked for at once."""

    def __init__(self, size: int, breaks: bool = False) -> None:
        self.left = size
        self.largest = 0
        self.breaks = breaks

    def read(self, size: int = -1) -> bytes:
        assert size > 0, "the whole file was asked for"
        self.largest = max(self.largest, size)
        give = min(size, self.left)
        self.left -= give
        if not give and self.breaks:
            raise ConnectionResetError("the browser went away")
        return b"x" * give


def test_a_file_is_written_piece_by_piece(images: LocalBucket) -> None:
    file = Endless(30_000_000)
    assert images.write("large", file).size == 30_000_000  # type: ignore[arg-type]
    assert file.largest <= 1 << 20


def test_an_upload_that_breaks_off_leaves_the_old_object(images: LocalBucket, folder: Path) -> None:
    images.write("x", b"old")
    with pytest.raises(ResourceFailed, match="the browser went away"):
        images.write("x", Endless(5_000_000, breaks=True))  # type: ignore[arg-type]
    assert images.read("x") == b"old"
    assert list((folder / HIDDEN).iterdir()) == []


def test_writing_again_replaces(images: LocalBucket) -> None:
    images.write("x", b"long ago")
    images.write("x", b"now")
    assert images.read("x") == b"now"


def test_what_is_missing_is_not_found(images: LocalBucket) -> None:
    images.write("a/b", b"")
    for path in ("none", "a", "a/b/c", "none/at/all"):
        for ask in (images.read, images.open, images.info, images.delete, images.local_path):
            with pytest.raises(ObjectNotFound, match="no object"):
                ask(path)
        assert not images.exists(path)


def test_a_name_cannot_be_an_object_and_a_folder(images: LocalBucket) -> None:
    images.write("a/b", b"kept")
    with pytest.raises(InvalidObjectName, match='"a/" holds other objects'):
        images.write("a", b"")
    with pytest.raises(InvalidObjectName, match="a part of its path is an object"):
        images.write("a/b/c", b"")
    assert [o.path for o in images.list()] == ["a/b"]
    assert images.read("a/b") == b"kept"


def test_an_empty_folder_is_in_nobodys_way(images: LocalBucket, folder: Path) -> None:
    (folder / "a").mkdir()
    images.write("a", b"")
    assert images.exists("a")


def test_delete_removes_the_folders_it_emptied(images: LocalBucket, folder: Path) -> None:
    images.write("a/b/c", b"")
    images.write("a/d", b"")
    images.delete("a/b/c")
    assert not (folder / "a/b").exists()
    images.delete("a/d")
    assert folder.is_dir()
    assert not (folder / "a").exists()


def test_list_is_in_order_of_path(images: LocalBucket) -> None:
    paths = ["a", "b.txt", "b/c", "b/c.d/e", "b/d", "b-x", "bb", "ü", "Z"]
    for path in paths:
        images.write(path, path)
    assert [o.path for o in images.list()] == sorted(paths)
    assert [o.path for o in images.list("b")] == sorted(p for p in paths if p.startswith("b"))
    assert [o.path for o in images.list("b/c")] == ["b/c", "b/c.d/e"]
    assert list(images.list("none")) == []


def test_list_shows_objects_only(images: LocalBucket, folder: Path, tmp_path: Path) -> None:
    images.write("real", b"")
    (tmp_path / "secret").write_text("s")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "loop").symlink_to(folder)
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    (folder / "back\\slash").touch()
    open(os.fsencode(folder) + b"/\xff\xfe", "w").close()
    (folder / HIDDEN / "x.part").touch()
    assert [o.path for o in images.list()] == ["real"]


OUTSIDE = [
    "../x",
    "..",
    ".",
    "a/../../x",
    "a/..",
    "./x",
    "a/./b",
    "/etc/passwd",
    "/",
    "//x",
    "a//b",
    "a/",
    "",
    "..\\x",
    "C:\\x",
    "a\0b",
    "\0",
    ".buildflow-tmp/x.part",
    ".Buildflow-TMP/x",
    "a/.buildflow-tmp",
    "x" * 256,
    "ü" * 128,
    "/".join(["x" * 200] * 6),
    "\udcff",
    "link/x",
    "link",
    "file-link",
    "dangling",
    "circle",
    "circle/x",
    7,
    None,
    b"x",
]


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: repr(path)[:30])
def test_no_name_leads_out_of_the_bucket(images: LocalBucket, folder: Path, tmp_path: Path, path: Any) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("secret")
    (folder / "link").symlink_to(outside)
    (folder / "file-link").symlink_to(outside / "x")
    (folder / "dangling").symlink_to(outside / "new")
    (folder / "circle").symlink_to("circle")
    before = sorted(tmp_path.rglob("*"))
    for ask in (images.read, images.open, images.info, images.exists, images.delete, images.local_path):
        with pytest.raises(InvalidObjectName, match=r"no object name: \w"):
            ask(path)
    with pytest.raises(InvalidObjectName, match=r"no object name: \w"):
        images.write(path, b"mine now")
    assert sorted(tmp_path.rglob("*")) == before
    assert (outside / "x").read_text() == "secret"


def test_a_link_that_stays_inside_can_be_read(images: LocalBucket, folder: Path) -> None:
    images.write("a/x", b"here")
    (folder / "b").symlink_to("a")
    assert images.read("b/x") == b"here"


@pytest.mark.parametrize("path", [".hidden", "a b", "ü/é", "x" * 255, "..x", "x..", "-", "a\nb", "a:b", "a.part"])
def test_unusual_names_are_names(images: LocalBucket, path: str) -> None:
    images.write(path, b"1")
    assert [o.path for o in images.list()] == [path]
    assert images.read(path) == b"1"
    images.delete(path)


def test_a_writer_that_is_killed_leaves_no_object(images: LocalBucket, folder: Path) -> None:
    program = """
        import sys, time
        from pathlib import Path
        sys.path.insert(0, {here!r})
        from test_bucket_local import bucket, stack, DRIVER

        class Slow:
            def read(self, size):
                print("asked", flush=True)
                time.sleep(0.02)
                return b"x" * size

        DRIVER.handle(bucket(), stack(Path({root!r}), bucket())).write("big", Slow())
    """
    text = textwrap.dedent(program).format(here=str(Path(__file__).parent), root=str(folder.parents[3]))
    writer = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    with writer.stdout:
        for _ in range(5):
            assert writer.stdout.readline() == b"asked\n"
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert list(images.list()) == []
    (left,) = (folder / HIDDEN).glob("*.part")
    assert left.stat().st_size >= 1 << 20

    DRIVER.create(bucket(), stack(folder.parents[3], bucket()))
    assert left.exists(), "it could still be somebody's"
    hour_ago = time.time() - 3700
    os.utime(left, (hour_ago, hour_ago))
    DRIVER.create(bucket(), stack(folder.parents[3], bucket()))
    assert not left.exists()


def test_a_bucket_that_was_not_applied_says_so(tmp_path: Path) -> None:
    images = DRIVER.handle(bucket(), stack(tmp_path, bucket()))
    with pytest.raises(ResourceFailed, match="has no folder"):
        images.write("x", b"")
    with pytest.raises(ObjectNotFound):
        images.delete("x")
    assert list(images.list()) == []


def test_nobody_needs_redis_for_a_bucket_that_nobody_watches(tmp_path: Path) -> None:
    program = """
        import sys
        from pathlib import Path
        sys.path.insert(0, {here!r})
        from test_bucket_local import bucket, stack, DRIVER
        session = stack(Path({root!r}), bucket())
        DRIVER.create(bucket(), session)
        images = DRIVER.handle(bucket(), session)
        images.write("x", b"")
        images.delete("x")
        print("redis" in sys.modules)
    """
    text = textwrap.dedent(program).format(here=str(Path(__file__).parent), root=str(tmp_path))
    answer = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"


# The driver


def test_where_a_bucket_is(tmp_path: Path) -> None:
    session = stack(tmp_path, bucket())
    assert DRIVER.identify(bucket(), session) == "file://.buildflow/local/buckets/shop-local-images"
    assert DRIVER.identify(bucket(local={"path": "data/in"}), session) == "file://data/in"
    outputs = DRIVER.create(bucket(local={"path": "data/in"}), session)
    assert outputs == {"path": str(tmp_path / "data/in"), "url": (tmp_path / "data/in").as_uri()}
    assert (tmp_path / "data/in").is_dir()


def test_the_name() -> None:
    assert DRIVER.name("images", BucketSpec(type="bucket"), "shop", "local") == "shop-local-images"
    assert DRIVER.name("images", BucketSpec(type="bucket", name="mine"), "shop", "local") == "mine"
    long = DRIVER.name("k" * 80, BucketSpec(type="bucket"), "shop", "local")
    assert len(long) == 63
    assert not DRIVER.check_name(long)


@pytest.mark.parametrize("name", ["a", "A.b-c_d", "0", "x" * 63])
def test_good_bucket_names(name: str) -> None:
    assert DRIVER.check_name(name) == ""


@pytest.mark.parametrize("name", ["", "x" * 64, "a/b", "..", ".x", "a b", "ü", "a\n", "\\"])
def test_bad_bucket_names_are_refused_in_words(name: str) -> None:
    assert DRIVER.check_name(name).startswith("a bucket's name ")


def test_create_adopts_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.png").write_bytes(b"meow")
    photos = bucket(local={"path": "photos"})
    session = stack(tmp_path, photos)
    DRIVER.create(photos, session)
    DRIVER.create(photos, session)
    assert DRIVER.exists(photos, session)
    assert DRIVER.handle(photos, session).read("cat.png") == b"meow"


def test_content_counts_what_a_delete_would_lose(tmp_path: Path, images: LocalBucket, folder: Path) -> None:
    session = stack(tmp_path, bucket())
    assert DRIVER.content(bucket(), session) == ""
    images.write("a/b", b"")
    assert DRIVER.content(bucket(), session) == "1 object"
    images.write("c", b"")
    (folder / HIDDEN / "x.part").touch()
    (folder / "back\\slash").touch()  # no object, but somebody's file
    assert DRIVER.content(bucket(), session) == "3 objects"
    assert DRIVER.content(bucket(name="other"), session) == ""


def test_delete_removes_the_bucket_and_nothing_else(tmp_path: Path, images: LocalBucket, folder: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("kept")
    images.write("a/b", b"")
    (folder / "link").symlink_to(outside)
    session = stack(tmp_path, bucket())
    DRIVER.delete(bucket(), session)
    assert not folder.exists()
    assert (outside / "x").read_text() == "kept"
    DRIVER.delete(bucket(), session)
    assert not DRIVER.exists(bucket(), session)


def test_delete_of_a_link_removes_the_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/x").touch()
    (tmp_path / "photos").symlink_to("disk")
    photos = bucket(local={"path": "photos"})
    DRIVER.delete(photos, stack(tmp_path, photos))
    assert not (tmp_path / "photos").is_symlink()
    assert (tmp_path / "disk/x").exists()


@pytest.mark.parametrize("path", [".", ".buildflow", "..", "/"])
def test_a_bucket_never_owns_the_project(tmp_path: Path, path: str) -> None:
    (tmp_path / ".buildflow/local").mkdir(parents=True)
    mine = bucket(local={"path": path}, force_destroy=True)
    with pytest.raises(ResourceFailed, match="lies in it"):
        DRIVER.create(mine, stack(tmp_path, mine))
    with pytest.raises(ResourceFailed, match="lies in it"):
        DRIVER.delete(mine, stack(tmp_path, mine))
    assert tmp_path.is_dir()


@pytest.mark.parametrize(("one", "other"), [("data", "data"), ("data", "data/in"), ("data/in", "data")])
def test_two_buckets_never_share_a_folder(tmp_path: Path, one: str, other: str) -> None:
    first, second = bucket("first", local={"path": one}), bucket("second", local={"path": other})
    with pytest.raises(ResourceFailed, match=r"first.*second"):
        DRIVER.create(first, stack(tmp_path, first, second))


def test_a_folder_that_is_a_file_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "photos").touch()
    photos = bucket(local={"path": "photos"})
    with pytest.raises(ResourceFailed, match="could not be created"):
        DRIVER.create(photos, stack(tmp_path, photos))


def test_compare(tmp_path: Path, images: LocalBucket) -> None:
    session = stack(tmp_path, bucket())
    old = bucket()
    assert DRIVER.compare(old, bucket(force_destroy=False, local={"path": None}), session).action is Action.NONE

    change = DRIVER.compare(old, bucket(force_destroy=True), session)
    assert (change.action, change.fields, change.loses_data) == (
        Action.UPDATE,
        ("force_destroy: false -> true",),
        "",
    )
    change = DRIVER.compare(old, bucket(name="other"), session)
    assert (change.action, change.loses_data) == (Action.REPLACE, "")
    assert "name: shop-local-images -> other" in change.fields

    images.write("x", b"")
    assert DRIVER.compare(old, bucket(local={"path": "elsewhere"}), session).loses_data == "1 object"


def test_a_new_name_for_the_same_folder_loses_nothing(tmp_path: Path) -> None:
    session = stack(tmp_path, bucket())
    old, new = (bucket(name=name, local={"path": "data"}) for name in ("one", "two"))
    assert DRIVER.compare(old, new, session).action is Action.UPDATE


def test_a_spooled_upload_is_written_from_where_it_stands(images: LocalBucket) -> None:
    with tempfile.SpooledTemporaryFile(max_size=10) as file:
        file.write(b"header and body")
        file.seek(7)
        images.write("x", file)  # type: ignore[arg-type]
    assert images.read("x") == b"and body"
