"""What a bucket is made of on AWS."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from buildflow.errors import ResourceFailed
from buildflow.primitives.aws_component import AwsComponent
from buildflow.providers.secrets import cloud_sdk

aws, s3 = cloud_sdk("pulumi_aws", "aws"), cloud_sdk("pulumi_aws.s3", "aws")

_DAY = 86400
_UPLOADS_KEPT = 7
"""Days after which the parts of an upload that nobody finished are removed."""


class S3Bucket(AwsComponent):
    """The bucket, with what S3 configures apart from it. Nobody but its owner writes: ACLs are off."""

    def create(self) -> Mapping[str, Any]:
        spec = self._spec
        bucket = self.child(
            s3.Bucket,
            bucket=self._resource.name,
            force_destroy=spec["force_destroy"],
            tags=self.tags,
            options={"protect": spec["deletion_protection"]},
        )
        self._configure(bucket.bucket)
        return {
            "name": bucket.bucket,
            "url": bucket.bucket.apply(lambda name: f"s3://{name}"),
            "arn": bucket.arn,
            "region": bucket.region,
            **self._key(),
        }

    def find(self) -> Mapping[str, Any]:
        found = self._program.look_up(self._resource, s3.get_bucket, bucket=self._resource.name)
        self._refuse_region(found.bucket_region)
        url = f"s3://{found.bucket}"
        return {"name": found.bucket, "url": url, "arn": found.arn, "region": found.bucket_region, **self._key()}

    def _refuse_region(self, region: str) -> None:
        """S3 answers from wherever a bucket is asked for, but tells queues of its own region alone."""
        resource = self._resource
        asked = self._program.region_of(resource) or self._program.look_up(resource, aws.get_region).region
        if region and region != asked:
            words = f'{resource.label} {resource.id} ("{resource.key}") is in {region}, and is looked for in {asked}'
            raise ResourceFailed(words, hint=f"say so on it: `aws: {{region: {region}}}`")

    def _configure(self, name: Any) -> None:
        spec, closed = self._spec, not self._spec["public_access"]
        access = self.child(
            s3.BucketPublicAccessBlock,
            bucket=name,
            block_public_acls=closed,
            block_public_policy=closed,
            ignore_public_acls=closed,
            restrict_public_buckets=closed,
        )
        self.child(
            s3.BucketOwnershipControls,
            bucket=name,
            rule={"object_ownership": "BucketOwnerEnforced"},
            options={"depends_on": [access]},  # S3 answers 409 to two changes of a bucket at once
        )
        self.child(s3.BucketServerSideEncryptionConfiguration, bucket=name, rules=[_encryption(spec)])
        self.child(s3.BucketLifecycleConfiguration, bucket=name, rules=list(_lifecycle(spec["lifecycle"])))
        if spec["versioning"]:  # without it later on, S3 keeps the versions that it has, and makes no more
            self.child(s3.BucketVersioning, bucket=name, versioning_configuration={"status": "Enabled"})
        if spec["cors"]:
            self.child(s3.BucketCorsConfiguration, bucket=name, cors_rules=[_cors(spec["cors"])])

    def _key(self) -> dict[str, str]:
        """The key that encrypts it, for whoever has to be allowed to use it."""
        key = self._spec["aws"]["kms_key"]
        return {"kms_key_arn": key} if key else {}


def _encryption(spec: Mapping[str, Any]) -> dict[str, Any]:
    """S3's own keys, or one of KMS, which is asked once a bucket and not once an object."""
    key = spec["aws"]["kms_key"]
    if key is None:
        return {"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}
    default = {"sse_algorithm": "aws:kms", "kms_master_key_id": key}
    return {"apply_server_side_encryption_by_default": default, "bucket_key_enabled": True}


def _lifecycle(lifecycle: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """S3 counts whole days."""
    yield {
        "id": "uploads",
        "status": "Enabled",
        "filter": {"prefix": ""},
        "abort_incomplete_multipart_upload": {"days_after_initiation": _UPLOADS_KEPT},
    }
    expire, versions = lifecycle["expire_after"], lifecycle["expire_versions_after"]
    if expire is not None or versions is not None:
        yield {
            "id": "expire",
            "status": "Enabled",
            "filter": {"prefix": lifecycle["prefix"]},
            **({"expiration": {"days": _days(expire)}} if expire is not None else {}),
            **({"noncurrent_version_expiration": {"noncurrent_days": _days(versions)}} if versions is not None else {}),
        }


def _days(seconds: float) -> int:
    return max(1, math.ceil(seconds / _DAY))


def _cors(cors: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "allowed_origins": cors["origins"],
        "allowed_methods": cors["methods"],
        "allowed_headers": cors["headers"],
        "expose_headers": cors["expose"],
        "max_age_seconds": math.ceil(cors["max_age"]),
    }
