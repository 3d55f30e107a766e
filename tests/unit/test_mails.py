"""The one mail about a run, as its reader gets it."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twinops import mails
from twinops.runs import Run

GROUP = "/twinops/staging/workflows/w"
RUN = Run(
    run_id="r1", workflow="w", git_sha="a" * 40, state="SUCCEEDED", epoch=1, exit_code=0, duration_s=4.5,
    idempotent=False, log_group=GROUP, log_stream="r1/1", report_bucket="b", report_key="w/r1/report.html",
)  # fmt: skip


def about(summary: str = "", link: str = "", **change: Any) -> tuple[str, str]:
    run = {name: value for name, value in {**RUN, **change}.items() if value is not None}
    return mails.about(cast(Run, run), env="staging", summary=summary, link=link)


def test_of_a_run_that_succeeded() -> None:
    subject, text = about("v2 ist besser – sehr\n\nDetails.\n", link="https://report")
    assert subject == "[twinops staging] w: v2 ist besser ? sehr"
    assert (
        text
        == f"""\
v2 ist besser – sehr

Details.

--
Run:    r1, SUCCEEDED, exit code 0, 4.5 s, commit {"a" * 12}
Log:    aws logs tail {GROUP} --log-stream-names r1/1 --since 7d
Report: aws s3 cp s3://b/w/r1/report.html report.html
        or, for a few hours, https://report
"""
    )


def test_of_a_run_that_failed() -> None:
    subject, text = about("what the script still wrote", state="FAILED", exit_code=3, report_key=None, epoch=2)
    assert subject == "[twinops staging] w: FAILED"
    assert (
        text
        == f"""\
The run of w failed: the script ended with exit code 3.

What to do: read the log (below) and mend the cause. Then start it again, with the same commit:
  ansible-playbook playbooks/invoke.yml -l staging -e rerun=r1
or with the commit that is deployed by then:
  ansible-playbook playbooks/invoke.yml -l staging -e workflow=w

what the script still wrote

--
Run:    r1, FAILED, exit code 3, 4.5 s, commit {"a" * 12}, attempt 2
Log:    aws logs tail {GROUP} --log-stream-names r1/1 --since 7d
"""
    )


@pytest.mark.parametrize(
    ("change", "subject", "told"),
    [
        ({"state": "FAILED", "reason": "no environment"}, "w: FAILED", "failed: no environment."),
        ({"state": "TIMED_OUT", "reason": "it was ended"}, "w: stopped, it took too long", "failed: it was ended."),
        (
            {"state": "CANCELLED", "reason": "cancelled by Ada"},
            "w: cancelled",
            "was cancelled by Ada. Nothing is to be",
        ),
        (
            {"state": "LOST", "reason": "its twin is gone"},
            "w: LOST",
            "its spec does not say idempotent: true.\nWhen you",
        ),
        (
            {"state": "LOST", "reason": "gone", "idempotent": True, "epoch": 3},
            "w: LOST",
            "it was lost 3 times.\nWhen you",
        ),
        (
            {"state": "FAILED", "reason": "it could not be started: x", "log_stream": None},
            "w: FAILED",
            "Log:    aws logs tail /aws/lambda/twinops-staging-backup --filter-pattern r1 --since 7d",
        ),
    ],
)
def test_of_other_ends(change: dict[str, Any], subject: str, told: str) -> None:
    found, text = about(exit_code=None, **change)
    assert found == f"[twinops staging] {subject}"
    assert told in text


def test_subjects_are_what_sns_takes() -> None:
    subject, _ = about("é" * 200)
    assert len(subject) < 100
    assert subject.isascii()
