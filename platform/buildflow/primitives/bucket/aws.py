"""A bucket on AWS: S3."""

from collections.abc import Iterator, Mapping
from typing import Any

from buildflow.ir.graph import Resource
from buildflow.primitives.base import Grant, Refusal, Role, Sink
from buildflow.providers.aws import AwsSession
from buildflow.providers.names import S3_BUCKET


class S3BucketDriver:
    """`bucket` on AWS; a `CloudDriver`."""

    label = "S3Bucket"
    outputs = ("name", "url", "arn", "region")

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        return spec.name or S3_BUCKET.physical(project, stack, key)

    def identify(self, resource: Resource, settings: Any) -> str:
        return f"s3://{resource.name}"

    def check_name(self, name: str) -> str:
        return S3_BUCKET.refuses(name)

    def refuses(self, resource: Resource, referred: Mapping[str, Resource]) -> Iterator[Refusal]:
        """Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CORSRule.html"""
        cors = resource.spec["cors"] or {}
        for name in ("origins", "headers"):
            for number, value in enumerate(cors.get(name, ())):
                if value.count("*") > 1:
                    yield Refusal(("cors", name, number), f'S3 takes one * at most, "{value}" has more', "write it out")
        for number, value in enumerate(cors.get("expose", ())):
            if "*" in value:
                hint = "name each header that a page may read"
                yield Refusal(("cors", "expose", number), f'S3 takes no * there, "{value}" has one', hint)
        key, region = resource.spec["aws"]["kms_key"], resource.spec["aws"]["region"]
        if key and region and key.split(":")[3] != region:
            why = f"S3 encrypts with a key of the bucket's own region, {region}, and this one is of {key.split(':')[3]}"
            yield Refusal(("aws", "kms_key"), why, f"name a key of {region}")

    def declare(self, resource: Resource, program: Any) -> Any:
        from buildflow.primitives.bucket.aws_resources import S3Bucket

        return S3Bucket(resource, program)

    def grants(self, resource: Resource, role: Role) -> tuple[Grant, ...]:
        """A handle reads, writes, deletes and lists; a sink only writes. Where a key of one's own encrypts, what goes
        up in parts has to be decrypted, too."""
        written = ("s3:PutObject", "s3:AbortMultipartUpload")
        key = (Grant(resource.key, ("kms:Decrypt", "kms:GenerateDataKey"), on="kms_key_arn"),)
        if role is Role.SINK:
            return (Grant(resource.key, written, below="/*"), *key)
        read = ("s3:GetObject", "s3:DeleteObject")
        return (Grant(resource.key, (*read, *written), below="/*"), Grant(resource.key, ("s3:ListBucket",)), *key)

    def content(self, resource: Resource, session: AwsSession) -> str:
        """Its objects, older versions included, counted to a thousand."""
        with session.spoken("s3", f'bucket "{resource.name}"'):
            client = session.client("s3", session.region_of(resource))
            found = client.list_object_versions(Bucket=resource.name, MaxKeys=1000)
        count = len(found.get("Versions", ())) + len(found.get("DeleteMarkers", ()))
        more = "more than " if found.get("IsTruncated") else ""
        return f"{more}{count:,} object{'s' * (count != 1)}" if count else ""

    def sink(self, resource: Resource, session: AwsSession) -> Sink:
        from buildflow.primitives.bucket.s3 import bucket_sink

        return bucket_sink(resource, session)

    def handle(self, resource: Resource, session: AwsSession) -> Any:
        from buildflow.primitives.bucket.s3 import S3BucketHandle

        return S3BucketHandle(resource, session)


DRIVER = S3BucketDriver()
