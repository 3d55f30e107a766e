#!/bin/bash
# The first boot of the host of Airflow and Ansible, as root on Amazon Linux 2023; its output: /var/log/cloud-init-output.log.
# Packages come from Amazon's bucket, which the S3 endpoint of the VPC passes. The agent of Session Manager is in the image.
set -eu

dnf --assumeyes --releasever=latest --security upgrade
dnf --assumeyes install git python3.11
install -d -m 0750 -o ec2-user -g ec2-user /opt/twinops
