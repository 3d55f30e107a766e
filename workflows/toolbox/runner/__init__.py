"""What :mod:`toolbox.run_once` is made of. Runs in the runner environment: boto3 and PyYAML, no data libraries."""
