"""The laptop world of twinops: an AWS endpoint, real Jupyter twins, mail, and devices with a real sshd."""

import sys
from pathlib import Path

# The core is not installed: Ansible ships it from module_utils/, and so do we.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "module_utils"))
