"""On a test's PYTHONPATH: every call that boto3 makes is noted in the file that `RECORD_CALLS` names, a line of JSON
each."""

import json
import os

path = os.environ.get("RECORD_CALLS")
if path:
    from botocore.client import BaseClient

    make = BaseClient._make_api_call

    def noted(self, operation, parameters):  # type: ignore[no-untyped-def]
        call = {
            "service": self.meta.service_model.service_name,
            "operation": operation,
            "on": {k: v for k, v in parameters.items() if k in ("QueueUrl", "Bucket", "Key", "TopicArn", "SecretId")},
        }
        with open(path, "a") as file:
            file.write(json.dumps(call) + "\n")
        return make(self, operation, parameters)

    BaseClient._make_api_call = noted
