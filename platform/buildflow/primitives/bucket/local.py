"""bucket on this machine: a folder."""

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildflow.errors import ResourceFailed
from buildflow.ir.graph import Resource
from buildflow.primitives.base import Action, Change
from buildflow.primitives.bucket.folder import bucket_folder, make_folders, relative_folder, sweep
from buildflow.primitives.bucket.object_names import HIDDEN
from buildflow.primitives.bucket.sink import BucketSink
from buildflow.providers.base import LocalSession, physical_name

if TYPE_CHECKING:
    from buildflow.primitives.bucket.local_handle import LocalBucket

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class LocalBucketDriver:
    """Creates, compares and removes the folder."""

    label = "LocalBucket"
    outputs = ("path", "url")

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        return spec.name or physical_name(project, stack, key)

    def identify(self, resource: Resource, settings: Any) -> str:
        return f"file://{relative_folder(resource, settings.dir).as_posix()}"

    def check_name(self, name: str) -> str:
        if not 1 <= len(name) <= 63:
            return "a bucket's name has 1 to 63 characters"
        if not _NAME.fullmatch(name):
            return (
                "a bucket's name consists of letters, digits, dots, hyphens and underscores, "
                "and begins with a letter or a digit"
            )
        return ""

    def create(self, resource: Resource, session: LocalSession) -> dict[str, Any]:
        folder = bucket_folder(resource, session)
        self._refuse_neighbours(resource, folder, session)
        for other in _other_buckets(resource, session):
            if folder.resolve().is_relative_to(bucket_folder(other, session).resolve()):
                raise ResourceFailed(f"the bucket {resource.key} lies in the folder of the bucket {other.key}")
        try:
            make_folders(folder)
            sweep(folder)
        except OSError as error:
            raise ResourceFailed(f"the bucket {resource.name} could not be created: {error}") from error
        return {"path": str(folder), "url": folder.as_uri()}

    def exists(self, resource: Resource, session: LocalSession) -> bool:
        return bucket_folder(resource, session).is_dir()

    def compare(self, old: Resource, new: Resource, session: LocalSession) -> Change:
        fields = tuple(
            f"{field}: {before} -> {after}"
            for field, before, after in (
                ("name", old.name, new.name),
                ("path", *(relative_folder(r, session.dir).as_posix() for r in (old, new))),
                *((field, old.spec.get(field), new.spec.get(field)) for field in ("object", "format")),
                ("force_destroy", *(_words(r.spec.get("force_destroy", False)) for r in (old, new))),
            )
            if before != after
        )
        if bucket_folder(old, session) != bucket_folder(new, session):
            return Change(Action.REPLACE, fields, self.content(old, session))
        return Change(Action.UPDATE if fields else Action.NONE, fields)

    def update(self, old: Resource, new: Resource, session: LocalSession) -> dict[str, Any]:
        return self.create(new, session)

    def content(self, resource: Resource, session: LocalSession) -> str:
        """Counts whatever a delete would remove, files that are no objects included."""
        folder = str(bucket_folder(resource, session))
        count = 0
        try:
            for here, folders, files in os.walk(folder, onerror=_reraise):
                folders[:] = [f for f in folders if f != HIDDEN]
                links = sum(os.path.islink(os.path.join(here, f)) for f in folders)
                count += len(files) + links
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ResourceFailed(f"what the bucket {resource.name} holds cannot be read: {error}") from error
        return f"{count} object{'' if count == 1 else 's'}" if count else ""

    def delete(self, resource: Resource, session: LocalSession) -> None:
        """Remove the folder. A link is removed, never what it leads to."""
        folder = bucket_folder(resource, session)
        try:
            if folder.is_symlink():
                folder.unlink()
            elif folder.exists():
                self._refuse_neighbours(resource, folder, session)
                shutil.rmtree(folder)
        except OSError as error:
            raise ResourceFailed(f"the bucket {resource.name} could not be deleted: {error}") from error

    def handle(self, resource: Resource, session: LocalSession) -> "LocalBucket":
        from buildflow.primitives.bucket.local_handle import LocalBucket  # `check` names buckets, and opens none

        return LocalBucket(resource, session)

    def sink(self, resource: Resource, session: LocalSession) -> BucketSink:
        return BucketSink(resource, self.handle(resource, session))

    def _refuse_neighbours(self, resource: Resource, folder: Path, session: LocalSession) -> None:
        """A bucket owns its folder and is deleted with it, so nothing of others may lie in it."""
        others = [(session.root, "the project"), (session.root / session.dir, "the stack's state")]
        others += [(bucket_folder(o, session), f"the bucket {o.key}") for o in _other_buckets(resource, session)]
        for place, owner in others:
            if place.resolve().is_relative_to(folder.resolve()):
                raise ResourceFailed(
                    f"the bucket {resource.key} cannot have the folder {folder}: {owner} lies in it",
                    hint="Give it a folder of its own in local.path.",
                )


def _other_buckets(resource: Resource, session: LocalSession) -> list[Resource]:
    return [
        r for r in session.graph.resources if r.type == "bucket" and r.provider == "local" and r.key != resource.key
    ]


def _words(value: bool) -> str:
    return "true" if value else "false"


def _reraise(error: OSError) -> None:
    raise error


DRIVER = LocalBucketDriver()
