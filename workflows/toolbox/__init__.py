"""What the scripts of workflows import, and a person's own from ``workflows/``: ``python -m toolbox.drift``.

On a twin, twinops is on the path beside it; in a clone it lies in ``module_utils``.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("twinops") is None:
    sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))
