"""What a topic is made of on AWS."""

from collections.abc import Mapping
from typing import Any

from buildflow.primitives.aws_component import AwsComponent
from buildflow.providers.secrets import cloud_sdk

sns = cloud_sdk("pulumi_aws.sns", "aws")


class SNSTopic(AwsComponent):
    """The topic. Only this account publishes to it, which is SNS' own policy."""

    def create(self) -> Mapping[str, Any]:
        fifo: dict[str, Any] = {"fifo_topic": True} if self._spec["aws"]["fifo"] else {}
        topic = self.child(sns.Topic, name=self._resource.name, tags=self.tags, **fifo)
        return {"name": topic.name, "arn": topic.arn}

    def find(self) -> Mapping[str, Any]:
        found = self._program.look_up(self._resource, sns.get_topic, name=self._resource.name)
        return {"name": found.name, "arn": found.arn}
