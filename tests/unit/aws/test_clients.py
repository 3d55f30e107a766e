"""Clients are made quickly, and in the same way as botocore makes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest
from botocore.exceptions import DataNotFoundError
from botocore.loaders import Loader
from twinops.aws.clients import client

from tests.unit.endpoint import AWS_VARIABLES, forget_clients


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in AWS_VARIABLES.items():
        monkeypatch.setenv(name, value)
    forget_clients()
    yield
    forget_clients()


def test_a_client_is_made_without_listing_all_services(monkeypatch: pytest.MonkeyPatch) -> None:
    def listed(*_: object) -> None:
        raise AssertionError("all services were listed")

    monkeypatch.setattr(Loader, "list_available_services", listed)
    assert client("dynamodb").meta.service_model.api_version == "2012-08-10"


@pytest.mark.parametrize("service", ["dynamodb", "s3", "sagemaker", "logs"])
def test_it_is_the_client_that_botocore_makes(service: str) -> None:
    ours, theirs = client(service), botocore.session.Session().create_client(service)
    assert ours.meta.method_to_api_mapping == theirs.meta.method_to_api_mapping
    assert ours.meta.endpoint_url == theirs.meta.endpoint_url


def test_a_service_that_does_not_exist_is_named() -> None:
    with pytest.raises(DataNotFoundError, match="nothing-like-this"):
        client("nothing-like-this")


def test_models_of_the_search_path_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    (tmp_path / "mine/2026-01-01").mkdir(parents=True)
    (tmp_path / "mine/2026-01-01/service-2.json").write_text("not JSON")
    with pytest.raises(ValueError, match="Expecting value"):
        client("mine")
