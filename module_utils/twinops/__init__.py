"""The core of twinops, imported by modules, devices, the Lambdas and the twins alike: standard library, Python 3.9."""
