"""A file on AWS: rows are kept in a journal on the worker's disk, and appear as a file in S3 when it is time."""

from typing import Any

from buildflow.ir.graph import Resource
from buildflow.primitives.base import Grant, Role
from buildflow.primitives.bucket.folder import make_folders
from buildflow.primitives.bucket.object_template import fixed_folder
from buildflow.primitives.file.formats import RowFormat
from buildflow.primitives.file.local import LocalFileDriver, _journals
from buildflow.primitives.file.sink import BucketPlace, FileSink
from buildflow.providers.aws import AwsSession


class S3FileDriver(LocalFileDriver):
    """`file` on AWS; a `LocalDriver`: its files belong to their bucket, which AWS knows."""

    label = "S3File"

    def identify(self, resource: Resource, settings: Any) -> str:
        return f"s3://{resource.spec.get('bucket')}:{resource.spec['path']}"

    def create(self, resource: Resource, session: Any) -> dict[str, Any]:
        make_folders(_journals(resource, session).folder)
        bucket, folder = session.graph[resource.spec["bucket"]], fixed_folder(resource.spec["path"])
        return {"path": f"s3://{bucket.name}/{folder}".rstrip("/")}

    def grants(self, resource: Resource, role: Role) -> tuple[Grant, ...]:
        """It asks whether a file is there before it writes it: a process may have died in between."""
        bucket = resource.references["bucket"]
        written = ("s3:PutObject", "s3:AbortMultipartUpload", "s3:GetObject")
        key = Grant(bucket, ("kms:Decrypt", "kms:GenerateDataKey"), on="kms_key_arn")
        return (Grant(bucket, written, below="/*"), Grant(bucket, ("s3:ListBucket",)), key)

    def sink(self, resource: Resource, session: Any) -> FileSink:
        spec, rotation, journals = resource.spec, resource.spec["rotate"], _journals(resource, session)
        format = RowFormat(f'file "{resource.key}"', spec["format"], resource.columns)
        place = BucketPlace(_bucket(resource, session), journals.folder)
        return FileSink(
            resource.key, spec["path"], format, journals, place, size=rotation["size"], every=rotation["every"]
        )


def _bucket(resource: Resource, session: AwsSession) -> Any:
    from buildflow.primitives.bucket.s3 import S3BucketHandle  # `check` names files, and writes none

    return S3BucketHandle(session.graph[resource.spec["bucket"]], session)


DRIVER = S3FileDriver()
