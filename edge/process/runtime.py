"""onnxruntime, told not to phone home.

Since 1.32 it gathers usage events under a device id in ``~/.cache`` and uploads them over HTTPS. It reads the variable
when it is imported, so it has to be set before; ``disable_telemetry_events()`` comes too late for the device id.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

__all__ = ["onnxruntime"]
