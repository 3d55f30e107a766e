"""Notebook instances are real: Jupyter answers, lifecycle scripts run, links expire, stopping ends everything."""

from __future__ import annotations

import base64
import http.cookiejar
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from sandbox.processes import command_line, with_environment
from sandbox.settings import ACCOUNT, CLONE, REGION
from tests.sandbox.support import OwnSandbox, eventually

pytestmark = pytest.mark.sandbox

Aws = Callable[[str], Any]


def script(text: str) -> list[dict[str, str]]:
    return [{"Content": base64.b64encode(text.encode()).decode()}]


class Notebooks:
    """Makes notebook instances with unique names, and removes their processes at the end."""

    def __init__(self, own: OwnSandbox, aws: Aws, make_role: Callable[..., str]) -> None:
        self.own, self.sagemaker = own, aws("sagemaker")
        self.role = make_role(f"notebooks-{uuid.uuid4().hex[:8]}", "sagemaker.amazonaws.com")
        self.names: list[str] = []

    def create(self, *, on_create: str = "", on_start: str = "", **options: Any) -> str:
        name = f"test-{uuid.uuid4().hex[:8]}"
        hooks = {"OnCreate": script(on_create)} if on_create else {}
        hooks |= {"OnStart": script(on_start)} if on_start else {}
        self.sagemaker.create_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName=name, **hooks)
        self.sagemaker.create_notebook_instance(
            NotebookInstanceName=name,
            InstanceType="ml.t3.medium",
            RoleArn=self.role,
            LifecycleConfigName=name,
            **options,
        )
        self.names.append(name)
        return name

    def describe(self, name: str) -> dict[str, Any]:
        described: dict[str, Any] = self.sagemaker.describe_notebook_instance(NotebookInstanceName=name)
        return described

    def wait(self, name: str, status: str, timeout_s: float = 60) -> dict[str, Any]:
        described: dict[str, Any] = eventually(
            lambda: (found := self.describe(name))["NotebookInstanceStatus"] == status and found, timeout_s
        )
        return described

    def stop(self, name: str) -> None:
        self.sagemaker.stop_notebook_instance(NotebookInstanceName=name)
        self.wait(name, "Stopped")

    def home(self, name: str) -> Path:
        return self.own.settings.home / "notebooks" / name

    def link(self, name: str) -> str:
        answer = self.sagemaker.create_presigned_notebook_instance_url(NotebookInstanceName=name)
        return str(answer["AuthorizedUrl"])


@pytest.fixture(scope="module")
def notebooks(own_sandbox: OwnSandbox, aws: Aws, make_role: Callable[..., str]) -> Iterator[Notebooks]:
    made = Notebooks(own_sandbox, aws, make_role)
    yield made
    for name in made.names:
        if made.describe(name)["NotebookInstanceStatus"] == "InService":
            made.stop(name)


@pytest.fixture(scope="module")
def running(notebooks: Notebooks) -> str:
    """A notebook instance in service, whose scripts have run."""
    name = notebooks.create(
        on_create="#!/bin/bash\necho created >> SageMaker/history\n",
        on_start="#!/bin/bash\nset -eu\necho started >> SageMaker/history\nenv > environment\nuv --version\n",
        Tags=[{"Key": "a", "Value": "1"}],
    )
    notebooks.wait(name, "InService")
    return name


def browser() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))


def test_scripts_run_in_an_environment_of_their_own(notebooks: Notebooks, running: str) -> None:
    home, settings = notebooks.home(running), notebooks.own.settings
    assert (home / "SageMaker/history").read_text() == "created\nstarted\n"
    environment = dict(line.split("=", 1) for line in (home / "environment").read_text().splitlines())
    role = notebooks.role.rpartition("/")[2]
    assert environment["HOME"] == str(home)
    assert environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == settings.credentials_url(role)
    assert environment["AWS_ENDPOINT_URL"] == settings.endpoint_url
    assert environment["AWS_REGION"] == environment["AWS_DEFAULT_REGION"] == REGION
    assert environment["UV_CACHE_DIR"] == str(CLONE / ".cache/uv")
    assert not {"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_CONFIG_FILE", "PYTHONPATH"} & environment.keys()


def test_a_link_opens_jupyter_and_a_terminal_can_be_made(notebooks: Notebooks, running: str) -> None:
    link, opener = notebooks.link(running), browser()
    with opener.open(link, timeout=10) as page:
        assert page.status == 200
    base = f"http://{urlsplit(link).netloc}"
    with opener.open(f"{base}/api/contents", timeout=10) as listing:
        assert {entry["name"] for entry in json.load(listing)["content"]} == {"history"}


@pytest.mark.parametrize("token", ["", "forged", "another"])
def test_a_wrong_token_is_refused(notebooks: Notebooks, running: str, token: str) -> None:
    link = urlsplit(notebooks.link(running))
    if token == "another":
        name, expiry, signature = base64.urlsafe_b64decode(link.query.partition("=")[2]).decode().rsplit(".", 2)
        token = base64.urlsafe_b64encode(f"{name}.{int(expiry) + 1}.{signature}".encode()).decode()
    with pytest.raises(urllib.error.HTTPError) as refused:
        browser().open(f"http://{link.netloc}/api/contents?authToken={token}", timeout=10)
    with refused.value:
        assert refused.value.code == 403


def test_a_link_is_valid_for_five_minutes(notebooks: Notebooks, running: str) -> None:
    token = urlsplit(notebooks.link(running)).query.partition("=")[2]
    expiry = int(base64.urlsafe_b64decode(token).decode().rsplit(".", 2)[1])
    assert 290 < expiry - time.time() <= 300


def test_stop_ends_background_jobs_and_start_keeps_only_the_volume(notebooks: Notebooks) -> None:
    name = notebooks.create(
        on_create="echo created >> SageMaker/history",
        on_start="touch outside; echo started >> SageMaker/history; setsid sleep 300 >/dev/null 2>&1 &",
    )
    notebooks.wait(name, "InService")
    marker = f"TWINOPS_NOTEBOOK={name}"
    commands = [command_line(process.pid) for process in with_environment(marker)]
    assert "sleep 300" in commands, "the job that the script left behind"
    assert any("jupyter_identity.py" in command for command in commands)
    notebooks.stop(name)
    assert with_environment(marker) == []
    with pytest.raises(ClientError, match=r"notebook instance status is \(Stopped\), expected InService"):
        notebooks.link(name)

    (notebooks.home(name) / "elsewhere").touch()
    notebooks.sagemaker.start_notebook_instance(NotebookInstanceName=name)
    notebooks.wait(name, "InService")
    assert (notebooks.home(name) / "SageMaker/history").read_text() == "created\nstarted\nstarted\n"
    assert not (notebooks.home(name) / "elsewhere").exists()

    with pytest.raises(ClientError, match=r"Status \(InService\) not in \(\[Failed, Stopped\]\)"):
        notebooks.sagemaker.delete_notebook_instance(NotebookInstanceName=name)
    notebooks.stop(name)
    notebooks.sagemaker.delete_notebook_instance(NotebookInstanceName=name)
    notebooks.names.remove(name)
    eventually(lambda: not notebooks.home(name).exists())
    with pytest.raises(ClientError, match="RecordNotFound"):
        notebooks.describe(name)


def test_a_failing_script_fails_the_instance(notebooks: Notebooks) -> None:
    name = notebooks.create(on_start="#!/bin/bash\necho this went wrong\nexit 3\n")
    described = notebooks.wait(name, "Failed")
    assert "OnStart: exit code 3" in described["FailureReason"]
    log = Path(described["FailureReason"].rpartition("see ")[2])
    assert log.read_text() == "this went wrong\n"
    with pytest.raises(ClientError, match="expected InService"):
        notebooks.link(name)


def test_update_needs_a_stopped_instance(notebooks: Notebooks, running: str) -> None:
    with pytest.raises(ClientError, match="Unable to transition to"):
        notebooks.sagemaker.update_notebook_instance(NotebookInstanceName=running, InstanceType="ml.t3.large")
    name = notebooks.create(on_start="exit 1")
    notebooks.wait(name, "Failed")
    notebooks.sagemaker.update_notebook_instance(
        NotebookInstanceName=name, InstanceType="ml.t3.large", DisassociateLifecycleConfig=True
    )
    described = notebooks.describe(name)
    assert described["InstanceType"] == "ml.t3.large"
    assert "NotebookInstanceLifecycleConfigName" not in described
    with pytest.raises(ClientError, match="does not exist"):
        notebooks.sagemaker.update_notebook_instance(NotebookInstanceName=name, LifecycleConfigName="none")


def test_lifecycle_configurations_can_be_changed_and_tagged(notebooks: Notebooks) -> None:
    name, sagemaker = f"test-{uuid.uuid4().hex[:8]}", notebooks.sagemaker
    arn = sagemaker.create_notebook_instance_lifecycle_config(
        NotebookInstanceLifecycleConfigName=name, OnStart=script("exit 0"), Tags=[{"Key": "a", "Value": "1"}]
    )["NotebookInstanceLifecycleConfigArn"]
    sagemaker.update_notebook_instance_lifecycle_config(
        NotebookInstanceLifecycleConfigName=name, OnStart=script("exit 1")
    )
    described = sagemaker.describe_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName=name)
    assert described["OnStart"] == script("exit 1")
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": "2"}, {"Key": "b", "Value": "3"}])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": "3"}]
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["a"])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "3"}]
    with pytest.raises(ClientError, match="16384"):
        sagemaker.update_notebook_instance_lifecycle_config(
            NotebookInstanceLifecycleConfigName=name, OnStart=script("x" * 13000)
        )


def test_tags_of_an_instance_are_replaced_by_key(notebooks: Notebooks, running: str) -> None:
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:notebook-instance/{running}"
    notebooks.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": "2"}])
    assert notebooks.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "2"}]


@pytest.mark.parametrize("wrong", ["role", "configuration"])
def test_what_an_instance_refers_to_must_be_usable(
    notebooks: Notebooks, make_role: Callable[..., str], wrong: str
) -> None:
    role = make_role(f"test-{uuid.uuid4().hex[:8]}", "lambda.amazonaws.com") if wrong == "role" else notebooks.role
    configuration = {"LifecycleConfigName": "none"} if wrong == "configuration" else {}
    with pytest.raises(ClientError) as refused:
        notebooks.sagemaker.create_notebook_instance(
            NotebookInstanceName=f"test-{uuid.uuid4().hex[:8]}",
            InstanceType="ml.t3.medium",
            RoleArn=role,
            **configuration,
        )
    assert refused.value.response["Error"]["Code"] == "ValidationException"
