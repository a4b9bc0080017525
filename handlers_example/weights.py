"""The weights of a network: a file that is here already, or that is downloaded once from where torchvision
publishes it."""

import fcntl
import hashlib
import logging
import os
import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

logger = logging.getLogger(__name__)

PUBLISHED_AT = "https://download.pytorch.org/models/"
PUBLISHED = {
    "MobileNetV2": "mobilenet_v2-b0353104.pth",
    "ResNet50": "resnet50-0676ba61.pth",
    "InceptionV3": "inception_v3_google-0cc3c7bd.pth",
    "DenseNet121": "densenet121-a639ec97.pth",
}
"""Each network that ImageAI knows, and its file as torchvision publishes it today. The older files that
ImageAI's documentation names (resnet50-19c8e357.pth, inception_v3_google-1a9a5a14.pth) are there too."""
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.pth")

CONNECT_SECONDS = 3.0
SILENCE_SECONDS = 10.0
BLOCK = 1 << 18


class WeightsUnavailable(OSError):
    """The weights could not be fetched. Nothing is wrong with the project; the network is missing."""


class WeightsRefused(ValueError):
    """The project asks for weights that cannot be used, or what came was not what their name promises."""


def obtain(path: Path, network: str) -> Path:
    """The file of weights at `path`, downloaded if it is missing.

    A file that is there is taken as it is: it may be the user's own. Processes that start together wait for
    one download. Raises `WeightsUnavailable` or `WeightsRefused`.
    """
    if network not in PUBLISHED:
        raise WeightsRefused(f"there is no network {network!r}; ImageAI knows {', '.join(PUBLISHED)}")
    if path.is_file():
        return path
    digest = _digest_in_name(path, network)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(path.parent):
        if not path.is_file():
            _download(PUBLISHED_AT + path.name, path, digest)
    return path


def _digest_in_name(path: Path, network: str) -> str:
    """The hash that a published file carries in its name, once the name is seen to be of this network."""
    found = HASH_IN_NAME.search(path.name)
    family = PUBLISHED[network].rpartition("-")[0]
    if found is None or not path.name.startswith(f"{family}-"):
        raise WeightsRefused(
            f"there is no file {path}, and none of that name is published for {network}; "
            f"to have the published one downloaded, call it {PUBLISHED[network]}"
        )
    return found[1]


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Let one process at a time in. The folder itself is the lock, so none is left behind."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _download(url: str, path: Path, digest: str) -> None:
    """Fetch to a hidden name, check, then rename: the file at `path` is whole and right, or not there."""
    part = path.with_name(f".{path.name}.part")
    try:
        _fetch(url, part)
        _check(part, url, digest)
        part.replace(path)
    except (OSError, HTTPException) as exc:
        raise WeightsUnavailable(f"The weights could not be downloaded from {url}: {exc}.") from exc
    finally:
        part.unlink(missing_ok=True)


def _fetch(url: str, part: Path) -> None:
    logger.info("downloading %s to %s", url, part.parent)
    with _answer(url) as response, part.open("wb") as file, _progress() as progress:
        task = progress.add_task(url.rpartition("/")[2], total=response.length)
        while block := response.read(BLOCK):
            file.write(block)
            progress.advance(task, len(block))
        if response.length:
            raise OSError(f"the connection ended {response.length:,} bytes early")
        file.flush()
        os.fsync(file.fileno())


def _check(part: Path, url: str, digest: str) -> None:
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(digest):
        raise WeightsRefused(
            f"what {url} sent is not the file that its name promises: its sha256 begins with "
            f"{found[: len(digest)]}, not {digest}. Nothing was kept."
        )


def _answer(url: str) -> HTTPResponse:
    """The opened response. A machine without a network must not hang: looking a name up knows no time limit
    of its own, so all of it happens in a thread that is left behind when it takes too long."""
    outcome: list[HTTPResponse | Exception] = []
    given_up = threading.Event()
    thread = threading.Thread(target=_ask, args=(url, outcome, given_up), name="weights", daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    if not outcome:
        given_up.set()
        raise TimeoutError(f"no answer within {CONNECT_SECONDS:g} seconds")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _ask(url: str, outcome: list[HTTPResponse | Exception], given_up: threading.Event) -> None:
    try:
        response: HTTPResponse = urllib.request.urlopen(url, timeout=SILENCE_SECONDS)
    except (OSError, HTTPException, ValueError) as exc:
        if isinstance(exc, HTTPError):
            exc.close()
        outcome.append(exc)
        return
    if given_up.is_set():
        response.close()
    outcome.append(response)


def _progress() -> Progress:
    """A bar on stderr; nothing but its last state where that is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=Console(stderr=True))
