"""The account's root key is the one that ``up`` made, and its signature is checked like everybody's.

ministack takes ``test`` and any account number for root, and trusts the root key without its secret: a play that forgot
its credentials would work here and nowhere else.
"""

from __future__ import annotations

import os

from ministack.core import iam_evaluator
from ministack.services import sts


def install() -> None:
    configured = os.environ["AWS_ACCESS_KEY_ID"]

    def is_root(access_key_id: str) -> bool:
        return access_key_id in ("", configured)

    iam_evaluator.is_root_access_key = is_root
    sts.is_root_access_key = is_root
    # Where ministack decides whose signature it need not check: nobody's that has a key.
    iam_evaluator._is_root_key = lambda access_key_id: not access_key_id
