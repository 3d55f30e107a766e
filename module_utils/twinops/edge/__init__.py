"""The release transaction on a device: standard library, and python-tuf from the device's own environment."""
