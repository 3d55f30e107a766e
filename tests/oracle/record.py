"""What evidently says about the samples, as JSON. Runs in an environment of its own: ``make oracle`` renews it."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import warnings

import pandas as pd
from evidently.legacy.calculations.stattests import (
    ks_stat_test,
    psi_stat_test,
    wasserstein_stat_test,
)
from evidently.legacy.core import ColumnType
from samples import categories, numbers


def main() -> None:
    """Print the object."""
    warnings.simplefilter("ignore")  # scipy's, where it takes the asymptotic formula
    found = {"evidently": importlib.metadata.version("evidently"), "scipy": importlib.metadata.version("scipy")}
    found["numbers"] = {
        name: {
            "ks_p": value(ks_stat_test, ColumnType.Numerical, reference, current),
            "wasserstein_norm": value(wasserstein_stat_test, ColumnType.Numerical, reference, current),
        }
        for name, (reference, current) in numbers()
    }
    found["categories"] = {
        name: {"psi": value(psi_stat_test, ColumnType.Categorical, reference, current)}
        for name, (reference, current) in categories()
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


def value(test, kind, reference, current) -> float:
    """The number that a test of evidently's computes."""
    return float(test.func(pd.Series(reference), pd.Series(current), kind, 0.05)[0])


if __name__ == "__main__":
    main()
