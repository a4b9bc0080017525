"""file on this machine: below buildflow.yaml's folder, or in a local bucket."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from buildflow.errors import ResourceFailed
from buildflow.ir.graph import Resource
from buildflow.primitives.base import Action, Change
from buildflow.primitives.bucket.folder import bucket_folder, make_folders
from buildflow.primitives.bucket.object_template import filled, fixed_folder
from buildflow.primitives.file.formats import RowFormat
from buildflow.primitives.file.journal import Journals
from buildflow.primitives.file.sink import ID, BucketPlace, FileSink, FolderPlace, Place
from buildflow.primitives.table.duckdb_changes import differences
from buildflow.providers.base import LocalSession, physical_name
from buildflow.spec.units import in_words


class LocalFileDriver:
    """`file` on the local stack; a `LocalDriver`. Files in a bucket belong to that bucket."""

    label = "LocalFile"
    outputs = ("path",)

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        return spec.name or physical_name(project, stack, key)

    def identify(self, resource: Resource, settings: Any) -> str:
        bucket = resource.spec.get("bucket")
        return f"file://{f'{bucket}:' if bucket else ''}{resource.spec['path']}"

    def check_name(self, name: str) -> str:
        return ""

    def create(self, resource: Resource, session: LocalSession) -> dict[str, Any]:
        try:
            make_folders(_journals(resource, session).folder)
            if not resource.spec.get("bucket"):
                make_folders(_folder(resource, session))
        except OSError as error:
            raise ResourceFailed(f'the folder of file "{resource.key}" could not be created: {error}') from error
        return {"path": str(_folder(resource, session))}

    def exists(self, resource: Resource, session: LocalSession) -> bool:
        folders = [_journals(resource, session).folder]
        if not resource.spec.get("bucket"):
            folders.append(_folder(resource, session))
        return all(folder.is_dir() for folder in folders)

    def compare(self, old: Resource, new: Resource, session: LocalSession) -> Change:
        """Nothing here loses rows: files stay as and where they are, and rows that are in none yet go where they
        were to go when they came."""
        fields = tuple(_changes(old, new))
        return Change(Action.UPDATE if fields else Action.NONE, fields)

    def update(self, old: Resource, new: Resource, session: LocalSession) -> dict[str, Any]:
        return self.create(new, session)

    def content(self, resource: Resource, session: LocalSession) -> str:
        if resource.spec.get("bucket"):
            return ""
        sizes = [path.stat().st_size for path in _journals(resource, session).paths()]
        sizes += [path.stat().st_size for path in _published(resource, session)]
        return f"{len(sizes):,} file{'s' * (len(sizes) != 1)}, {_bytes(sum(sizes))}" if sizes else ""

    def delete(self, resource: Resource, session: LocalSession) -> None:
        """Its own files go. Those in a bucket stay there, and what is in none yet is put there first."""
        journals = _journals(resource, session)
        try:
            if resource.spec.get("bucket"):
                self._put_the_rest(resource, session)
            else:
                for path in _published(resource, session):
                    path.unlink()
                    _remove_empty(path.parent, session.root)
                _remove_empty(_folder(resource, session), session.root)
            if journals.folder.exists():
                shutil.rmtree(journals.folder)
        except OSError as error:
            raise ResourceFailed(f'the files of "{resource.key}" could not be deleted: {error}') from error

    def _put_the_rest(self, resource: Resource, session: LocalSession) -> None:
        journals = _journals(resource, session)
        if journals.paths() and resource.spec["bucket"] in session.graph:
            self.sink(resource, session).rotate()
        if journals.paths():
            raise ResourceFailed(
                f'rows of file "{resource.key}" could not be put into the bucket "{resource.spec["bucket"]}"; '
                f"they are in {journals.folder}"
            )

    def sink(self, resource: Resource, session: LocalSession) -> FileSink:
        spec, rotation, journals = resource.spec, resource.spec["rotate"], _journals(resource, session)
        format = RowFormat(f'file "{resource.key}"', spec["format"], resource.columns)
        place = _place(resource, session, journals)
        return FileSink(
            resource.key, spec["path"], format, journals, place, size=rotation["size"], every=rotation["every"]
        )


def _place(resource: Resource, session: LocalSession, journals: Journals) -> Place:
    from buildflow.primitives.bucket.local_handle import LocalBucket  # `check` names files, and writes none

    key = resource.spec.get("bucket")
    return BucketPlace(LocalBucket(session.graph[key], session), journals.folder) if key else FolderPlace(session.root)


def _journals(resource: Resource, session: LocalSession) -> Journals:
    return Journals(session.root / session.dir / "files" / resource.key)


def _folder(resource: Resource, session: LocalSession) -> Path:
    """The folder that holds all of its files."""
    key = resource.spec.get("bucket")
    root = bucket_folder(session.graph[key], session) if key else session.root
    return root / fixed_folder(resource.spec["path"])


def _published(resource: Resource, session: LocalSession) -> list[Path]:
    """Its files: those whose paths only it gives."""
    return list(filled(resource.spec["path"], session.root, ID))


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove a folder that holds nothing any more, and those above that only held it; `root` never."""
    while folder != root:
        try:
            folder.rmdir()
        except OSError:  # not empty, or gone already
            return
        folder = folder.parent


def _changes(old: Resource, new: Resource) -> Iterator[str]:
    for field in ("path", "format", "bucket"):
        before, after = old.spec.get(field), new.spec.get(field)
        if before != after:
            yield f"{field}: {before or 'none'} -> {after or 'none'} (files that are there stay as they are)"
    for change in differences(old.columns, new.columns):
        yield change.words
    sizes, times = ([r.spec["rotate"][part] for r in (old, new)] for part in ("size", "every"))
    if sizes[0] != sizes[1]:
        yield f"rotate.size: {_bytes(sizes[0])} -> {_bytes(sizes[1])}"
    if times[0] != times[1]:
        yield f"rotate.every: {in_words(times[0])} -> {in_words(times[1])}"


def _bytes(count: int) -> str:
    """A size in words: 1.2 MB."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} byte{'s' * (count != 1)}"


DRIVER = LocalFileDriver()
