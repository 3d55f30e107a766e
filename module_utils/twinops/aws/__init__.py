"""The part of twinops that talks to AWS: boto3 is imported here and nowhere else in the core."""
