"""What each cloud takes as a name, so that it is said before anything is created."""

import re
from dataclasses import dataclass, replace

from buildflow.providers.base import physical_name


@dataclass(frozen=True)
class NameRule:
    """The names that one service of one cloud takes: their length, their characters, what they may not look like.

    `pattern` has to match the whole name and `words` say what it asks for; `never` are (pattern, words) of names
    that are refused although they match.
    """

    shortest: int
    longest: int
    pattern: str
    words: str
    never: tuple[tuple[str, str], ...] = ()
    separator: str = "-"
    suffix: str = ""

    def refuses(self, name: str) -> str:
        """Why the cloud will refuse `name`, in words; empty when it will not."""
        if not self.shortest <= len(name) <= self.longest:
            return f"it has {len(name)} characters, not {self.shortest} to {self.longest}"
        if self.suffix and not name.endswith(self.suffix):
            return f"it has to end with {self.suffix}"
        never = next((words for pattern, words in self.never if re.search(pattern, name)), "")
        if not never and not re.fullmatch(self.pattern, name.removesuffix(self.suffix)):
            return f"it consists of {self.words}"
        return never

    def physical(self, project: str, stack: str, key: str) -> str:
        """The name without an explicit `name:`, shortened with a hash where it would be too long."""
        limit = min(self.longest, 255) - len(self.suffix)
        return physical_name(project, stack, key, limit=limit).replace("-", self.separator) + self.suffix

    def nearest(self, name: str) -> str:
        """A name like `name` that is taken; empty when none is easily made."""
        lowered = re.sub(r"[^A-Za-z0-9]+", self.separator, name).strip(self.separator)
        made = next((n for n in (lowered, lowered.lower()) if not self.refuses(n + self.suffix)), None)
        return made + self.suffix if made else ""


S3_BUCKET = NameRule(
    shortest=3,
    longest=63,
    pattern=r"[a-z0-9][a-z0-9.-]*[a-z0-9]",
    words="lower-case letters, digits, dots and hyphens, with a letter or digit at both ends",
    never=(
        (r"\.\.", "two dots may not stand side by side"),
        (r"^\d+\.\d+\.\d+\.\d+$", "it looks like an IP address"),
        (r"^(xn--|sthree-|amzn-s3-demo-)", "names that begin so are reserved"),
        (r"(-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)$", "names that end so are reserved"),
    ),
)
"""Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""

_FIFO = (r"\.fifo$", "names that end with .fifo are for `aws: {fifo: true}`")
SQS_QUEUE = NameRule(1, 80, r"[A-Za-z0-9_-]+", "letters, digits, hyphens and underscores", never=(_FIFO,))
SQS_EVENT_QUEUE = replace(SQS_QUEUE, never=((r"\.fifo$", "S3 sends its events to no FIFO queue"),))
SQS_FIFO_QUEUE = NameRule(6, 80, r"[A-Za-z0-9_-]+", "letters, digits, hyphens and underscores", suffix=".fifo")
"""Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html"""

SNS_TOPIC = NameRule(1, 256, r"[A-Za-z0-9_-]+", "letters, digits, hyphens and underscores", never=(_FIFO,))
SNS_FIFO_TOPIC = NameRule(6, 256, r"[A-Za-z0-9_-]+", "letters, digits, hyphens and underscores", suffix=".fifo")
"""Source: https://docs.aws.amazon.com/sns/latest/api/API_CreateTopic.html"""

RDS_INSTANCE = NameRule(
    shortest=1,
    longest=63,
    pattern=r"[a-z][a-z0-9-]*",
    words="lower-case letters, digits and hyphens, a letter first",
    never=((r"--", "two hyphens may not stand side by side"), (r"-$", "it may not end with a hyphen")),
)
"""Source: https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBInstance.html"""

CLOUD_STORAGE_BUCKET = NameRule(
    shortest=3,
    longest=63,
    pattern=r"[a-z0-9][a-z0-9._-]*[a-z0-9]",
    words="lower-case letters, digits, dots, hyphens and underscores, with a letter or digit at both ends",
    never=(
        (r"^goog", "names that begin with goog are reserved"),
        (r"google|g00gle", "names may not hold google"),
        (r"^\d+\.\d+\.\d+\.\d+$", "it looks like an IP address"),
    ),
)
"""Source: https://cloud.google.com/storage/docs/buckets#naming"""

PUBSUB = NameRule(
    shortest=3,
    longest=255,
    pattern=r"[A-Za-z][A-Za-z0-9._~+%-]*",
    words="letters, digits and the characters - . _ ~ + %, a letter first",
    never=((r"^goog", "names that begin with goog are reserved"),),
)
"""Source: https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names"""

BIGQUERY_TABLE = NameRule(1, 1024, r"\w+", "letters, digits and underscores", separator="_")
"""Source: https://cloud.google.com/bigquery/docs/tables#table_naming; marks and spaces are left out on purpose"""

CLOUD_SQL_INSTANCE = NameRule(
    shortest=1,
    longest=84,
    pattern=r"[a-z][a-z0-9-]*[a-z0-9]|[a-z]",
    words="lower-case letters, digits and hyphens, a letter first, no hyphen last",
)
"""Source: https://cloud.google.com/sql/docs/postgres/instance-settings#instance-id-2ndgen"""

CLOUD_SCHEDULER_JOB = NameRule(1, 500, r"[A-Za-z0-9_-]+", "letters, digits, hyphens and underscores")
"""Source: https://cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs"""

DUCKDB_TABLE = NameRule(
    shortest=1,
    longest=255,
    pattern=r"[A-Za-z_]\w*",
    words="letters, digits and underscores, no digit first",
    never=((r"^_buildflow", "names that begin with _buildflow are the platform's own"),),
    separator="_",
)
