"""The peer: an SQS queue emptied by a bare loop of boto3, ten messages at a time, nothing done with them."""

import os

import boto3

sqs = boto3.client("sqs", endpoint_url=os.environ["ENDPOINT"])
url = os.environ["QUEUE"]
while True:
    found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    if found:
        entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(found)]
        sqs.delete_message_batch(QueueUrl=url, Entries=entries)
