"""`make pipeline`: what the pipeline promises, seen to happen here. Each story asks the cloud and the devices.

A bare repository with a hook, and a push of this repository, whose own ``.gitlab-ci.yml`` is executed. Only the tests
of its job `test` are few (TWINOPS_TESTS); on a GitLab it runs all. A story begins where the one before has ended.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from pipeline.local import model, runner
from pipeline.local.company import DEVICES, ENVIRONMENTS, ISSUER, PATH, Company
from pipeline.local.model import FAILED, MANUAL, SKIPPED, SUCCESS, Pipeline
from pipeline.tools import PipelineError, git
from sandbox import processes
from sandbox.settings import ACCOUNT, CLONE, REGION, load

QUICK_TESTS = "tests/unit/test_plan.py"
WORKFLOW = "model_evaluation"
SPEC = f"workflows/{WORKFLOW}/workflow.yml"
SCHEDULE = re.compile(r"^schedule: .*$", re.MULTILINE)
ROLLOUT_TIMEOUT_S = 600

DEFAULTS = {
    "SANDBOX_HOME": str(CLONE / ".sandbox-pipeline"),
    "SANDBOX_PORT": "4766",
    "SANDBOX_NETWORK": "127.76.0.0",
    "SANDBOX_DEVICES": str(DEVICES),
}


class StoryError(Exception):
    """Something is not as the story goes."""


def expect(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise StoryError(f"{what}: expected {expected!r}, got {found!r}")


def expect_in(what: str, part: str, text: str) -> None:
    if " ".join(part.split()) not in " ".join(text.split()):
        raise StoryError(f"{what}: expected {part!r} in:\n{text[-3000:]}")


def expect_jobs(pipeline: Pipeline, **expected: str) -> None:
    """``deploy_staging="success"``: what became of jobs."""
    for name, status in expected.items():
        job = pipeline.job(name.replace("_", "-"))
        expect(f"pipeline {pipeline.number}: {job.name} ({job.message})", job.status, status)


def at_first_it_is_all_made(company: Company) -> str:
    """The first push: staging by itself; production once a person has approved it and the second key has signed."""
    first = company.push()
    expect_jobs(first, secrets=SUCCESS, test=SUCCESS, plan_production=SUCCESS, deploy_staging=SUCCESS)
    expect_jobs(first, tag_staging=SUCCESS, pages=SUCCESS, propose_production=SUCCESS, deploy_production=MANUAL)
    expect("staging", company.releases("staging"), ["v1"] * 3)
    expect("production, which nobody has approved", company.releases("production"), ["none"] * 3)
    expect("production's rule", company.rule("production", WORKFLOW), None)
    tags = git(company.bare, "tag", "--points-at", first.commit).splitlines()
    expect("tags", [tag.partition("-")[0] for tag in tags], ["staging"])

    once = company.gitlab("play", str(first.number), "deploy-production", "ada")
    expect_jobs(once, deploy_production=FAILED, pages_production=SUCCESS)
    expect_in("the page", f"The deployment of {first.commit[:12]} failed", company.page(once, "pages-production"))
    expect_in("without the second signature", "still to sign: production-2", company.log(once, "deploy-production"))
    expect("production, which one key has signed", company.releases("production"), ["none"] * 3)
    company.playbook("playbooks/sign.yml", "production", "-e", f"sign={shown(company)}", keys=approver(company))

    twice = company.gitlab("play", str(first.number), "deploy-production", "ada")
    expect_jobs(twice, deploy_production=SUCCESS)
    expect("production", company.releases("production"), ["v1"] * 3)
    deployed = company.artifact(twice, "deploy-production", "build/deployments/production.json")
    expect("who deployed production", (deployed["by"], deployed["state"]), ("ada", "deployed"))
    return "staging, then production by ada and with production-2's signature: v1 on 3 + 3 devices"


def approver(company: Company) -> Path:
    return company.keys("production", "approver")


def shown(company: Company) -> str:
    """The digest that the approver is shown, of what waits for a signature."""
    output = company.playbook("playbooks/sign.yml", "production", keys=approver(company))
    found = re.search(r"sign=([0-9a-f]{16})", output)
    if found is None:
        raise StoryError(f"sign.yml: expected a digest to sign, got:\n{output[-3000:]}")
    return found[1]


def a_failing_test_stops_it(company: Company) -> str:
    """A change with a test that fails deploys nothing."""
    before = company.rule("staging", WORKFLOW)
    set_schedule(company, "cron(0 3 * * ? *)")
    test = company.clone / QUICK_TESTS
    text = test.read_text()
    test.write_text(f"{text}\n\ndef test_what_nobody_has_made_yet() -> None:\n    raise NotImplementedError\n")
    company.commit("A schedule, and a test of what is not there yet")
    pipeline = company.push()
    expect("jobs that failed", [job.name for job in pipeline.jobs if job.status == FAILED], ["test"])
    expect_jobs(pipeline, deploy_staging=SKIPPED, tag_staging=SKIPPED, deploy_production=SKIPPED)
    expect("staging's rule", company.rule("staging", WORKFLOW), before)
    test.write_text(text)
    set_schedule(company, "cron(0 5 * * ? *)")
    company.commit("Without them")
    return "test failed, deploy-staging was skipped, the rule is as it was"


def set_schedule(company: Company, schedule: str) -> None:
    path = company.clone / SPEC
    text = path.read_text()
    if SCHEDULE.search(text):
        text = SCHEDULE.sub(f"schedule: {schedule}", text)
    else:
        text = text.replace("entrypoint:", f"schedule: {schedule}\nentrypoint:", 1)
    path.write_text(text)


def a_bad_model_is_stopped(company: Company) -> str:
    """Release v3 raises no alarm any more: the canary's gate sees it, and all devices return to v1."""
    mails = len(company.mails())
    company.set_release("staging", "v3")
    company.commit("Release v3")
    pipeline = company.push()
    expect_jobs(pipeline, deploy_staging=FAILED, tag_staging=SKIPPED, deploy_production=SKIPPED)
    expect("staging", company.releases("staging"), ["v1"] * 3)
    rollout = company.rollouts("staging")[0]
    expect("the rollout", (rollout["release"], rollout["state"], rollout["wave"]), ("v3", "blocked", "canary"))
    deployed = company.artifact(pipeline, "deploy-staging", "build/deployments/staging.json")
    expect("the record of the deployment", deployed["state"], "failed")
    expect_in("the page", "v3 was stopped at wave canary and taken back", company.page(pipeline, "pages"))
    told = [mail for mail in company.mails()[mails:] if "the deployment of" in mail]
    expect("mails about it", len(told), 1)
    return f"stopped at canary: {deployed['message'].splitlines()[0][:120]}"


def a_killed_runner_is_no_harm(company: Company) -> str:
    """The runner and all of its processes are killed while the second wave is updated; the next run goes on."""
    company.set_release("staging", "v2")
    company.commit("Release v2")
    number = company.latest + 1
    with company.start_push() as pushing:
        wait_for("the canary to run v2", lambda: company.releases("staging")[0] == "v2", pushing.poll)
        killed = company.pipeline(number)
        marker = runner.marker(company.project, number, "deploy-staging")
        at_work = processes.with_environment(f"{runner.MARKER}={marker}")
        for process in (processes.find(killed.runner), *at_work):
            if process is not None and process.alive:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, 9)
        pushing.communicate(timeout=60)
    expect("the job, for who looks", company.pipeline(number).job("deploy-staging").status, model.RUNNING)
    half = company.releases("staging")
    if half == ["v2"] * 3:
        raise StoryError("staging: expected to be interrupted before its last wave")
    again = company.gitlab("play", str(number), "deploy-staging", "erin")
    expect_jobs(again, deploy_staging=SUCCESS)
    expect_in("the lock", "was lost while it had it", again.job("deploy-staging").message)
    expect("staging", company.releases("staging"), ["v2"] * 3)
    return f"killed {len(at_work)} processes at {half}; the next run took over its lock and went on"


def wait_for(what: str, condition: Callable[[], bool], ended: Callable[[], int | None]) -> None:
    deadline = time.monotonic() + ROLLOUT_TIMEOUT_S
    while not condition():
        if ended() is not None or time.monotonic() > deadline:
            raise StoryError(f"expected {what} within {ROLLOUT_TIMEOUT_S} s")
        time.sleep(0.5)


def what_somebody_changed_by_hand_is_reported(company: Company) -> str:
    """The scheduled run names it, mails it, and changes nothing; a person repairs it."""
    name = str((company.rule("staging", WORKFLOW) or {})["Name"])
    company.client("events").disable_rule(Name=name)
    mails = len(company.mails())
    pipeline = company.gitlab("schedule")
    expect_jobs(pipeline, drift_staging=SUCCESS, repair_staging=MANUAL)
    plan = company.artifact(pipeline, "drift-staging", "build/plans/staging.json")
    found = [(change["action"], change["name"], change["fields"]) for change in plan["cloud"]]
    expect("what was found", found, [("update", name, ["enabled"])])
    expect("the rule, which was only looked at", (company.rule("staging", WORKFLOW) or {})["State"], "DISABLED")
    told = [mail for mail in company.mails()[mails:] if "differs from git" in mail]
    expect("mails about it", len(told) >= 1 and name in told[0].replace("=\n", ""), True)
    repaired = company.gitlab("play", str(pipeline.number), "repair-staging", "ada")
    expect_jobs(repaired, repair_staging=SUCCESS)
    expect("the rule, repaired", (company.rule("staging", WORKFLOW) or {})["State"], "ENABLED")
    return f"{name}: enabled; mailed; repaired by ada"


def an_edit_reaches_production(company: Company) -> str:
    """The way that the README describes: a merge request with its plan, staging, and production by a person."""
    schedule = "cron(0 4 * * ? *)"
    set_schedule(company, schedule)
    commit = company.commit(f"Evaluate at {schedule}")
    git(company.clone, "push", "-q", "origin", "HEAD:refs/heads/evaluate-at-four")
    proposed = company.gitlab("merge-request", "erin", "evaluate-at-four")
    for env in ENVIRONMENTS:
        expect(f"plan-{env}", proposed.job(f"plan-{env}").status, SUCCESS)
        plan = company.artifact(proposed, f"plan-{env}", f"build/plans/{env}.json")
        (change,) = [each for each in plan["cloud"] if each["name"].endswith(WORKFLOW) and each["kind"] == "rule"]
        expect(f"the plan for {env}", (change["action"], change["after"].get("schedule")), ("update", schedule))
    expect("jobs that deploy", [job.name for job in proposed.jobs if "deploy" in job.name], [])
    merged = company.push()
    expect("what was merged", merged.commit, commit)
    expect_jobs(merged, deploy_staging=SUCCESS, deploy_production=MANUAL)
    expect("staging's rule", (company.rule("staging", WORKFLOW) or {})["ScheduleExpression"], schedule)
    approved = company.gitlab("play", str(merged.number), "deploy-production", "ada")
    expect_jobs(approved, deploy_production=SUCCESS)
    expect("production's rule", (company.rule("production", WORKFLOW) or {})["ScheduleExpression"], schedule)
    return f"{SPEC}: planned on a merge request, then in staging, then in production"


def two_pushes_at_once(company: Company) -> str:
    """Two pushes: the second deployment of staging waits for the first, and then wins."""
    numbers = [company.latest + 1, company.latest + 2]
    pushing = []
    for number, schedule in zip(numbers, ("cron(0 1 * * ? *)", "cron(0 2 * * ? *)")):
        set_schedule(company, schedule)
        company.commit(f"Evaluate at {schedule}")
        pushing.append(company.start_push())
        wait_for("the pipeline", lambda expected=number: company.latest >= expected, lambda: None)  # type: ignore[misc]
    for process in pushing:
        process.communicate(timeout=1800)
    jobs = [company.pipeline(number).job("deploy-staging") for number in numbers]
    expect("both deployments", [job.status for job in jobs], [SUCCESS, SUCCESS])
    first, second = sorted(jobs, key=lambda job: job.started_at + job.waited_s)
    if second.started_at + second.waited_s < first.ended_at:
        raise StoryError(f"deploy-staging: expected one after the other, got {first} and {second}")
    expect_in("who came second", "lock staging: waited", second.message)
    expect("staging's rule", (company.rule("staging", WORKFLOW) or {})["ScheduleExpression"], "cron(0 2 * * ? *)")
    return f"one waited {second.waited_s:.0f} s for the other"


def an_approval_of_what_is_no_longer_so(company: Company) -> str:
    """Production is changed by hand after its plan was made: what was approved is not what would be applied."""
    pipeline = company.pipeline(company.latest)
    expect_jobs(pipeline, deploy_production=MANUAL)
    name = str((company.rule("production", WORKFLOW) or {})["Name"])
    company.client("events").disable_rule(Name=name)
    before = company.rule("production", WORKFLOW)
    refused = company.gitlab("play", str(pipeline.number), "deploy-production", "ada")
    expect_jobs(refused, deploy_production=FAILED)
    log = company.log(refused, "deploy-production")
    expect_in("why", "the plan that was approved is not the plan that would be applied; nothing was changed", log)
    expect("production's rule", company.rule("production", WORKFLOW), before)
    deployed = company.artifact(refused, "deploy-production", "build/deployments/production.json")
    expect("the record of the deployment", deployed["state"], "refused")
    company.client("events").enable_rule(Name=name)
    again = company.gitlab("play", str(pipeline.number), "deploy-production", "ada")
    expect_jobs(again, deploy_production=SUCCESS)
    rule = company.rule("production", WORKFLOW) or {}
    expect("production's rule", rule["ScheduleExpression"], "cron(0 2 * * ? *)")
    return f"refused, because {name} was changed; deployed once it was as approved"


def only_this_branch_and_this_audience(company: Company) -> str:
    """AWS takes no token of another audience, branch, project or issuer, nor one that has expired."""
    issuer, now = company.project.issuer, int(time.time())
    right = {"iss": ISSUER, "aud": ISSUER, "iat": now, "exp": now + 600}
    right |= {"sub": f"project_path:{PATH}:ref_type:branch:ref:main"}
    wrong: dict[str, dict[str, Any]] = {
        "another audience": {"aud": "https://somebody.example.com"},
        "another branch": {"sub": f"project_path:{PATH}:ref_type:branch:ref:feature"},
        "another project": {"sub": "project_path:plant/other:ref_type:branch:ref:main"},
        "a tag": {"sub": f"project_path:{PATH}:ref_type:tag:ref:main"},
        "an expired one": {"iat": now - 7200, "exp": now - 3600},
    }
    for env in ENVIRONMENTS:
        assume(company, env, "deploy", issuer.sign(right))
        for what, claims in wrong.items():
            try:
                assume(company, env, "deploy", issuer.sign({**right, **claims}))
            except ClientError:
                continue
            raise StoryError(f"{env}: expected a token of {what} to be refused")
        assume(company, env, "plan", issuer.sign({**right, **wrong["another branch"]}))
    return f"{', '.join(wrong)}: refused; another branch may plan, and not deploy"


def assume(company: Company, env: str, role: str, token: str) -> None:
    sts = boto3.client(
        "sts",
        region_name=REGION,
        endpoint_url=company.settings.endpoint_url,
        aws_access_key_id="none",
        aws_secret_access_key="none",  # noqa: S106
    )
    arn = f"arn:aws:iam::{ACCOUNT}:role/twinops-{env}-{role}"
    sts.assume_role_with_web_identity(RoleArn=arn, RoleSessionName="story", WebIdentityToken=token)


def credentials_that_have_expired(company: Company) -> str:
    """A job whose token is no longer valid says so and changes nothing; run again, it gets a new one."""
    settings = company.folder / "project.json"
    text = settings.read_text()
    settings.write_text(json.dumps({**json.loads(text), "token_lifetime_s": -3600}))
    pipeline = company.gitlab("schedule")
    settings.write_text(text)
    expect_jobs(pipeline, drift_staging=FAILED, drift_production=FAILED, repair_staging=SKIPPED)
    expect_in("why", "expired", company.log(pipeline, "drift-staging"))
    again = company.gitlab("play", str(pipeline.number), "drift-staging", "ada")
    expect_jobs(again, drift_staging=SUCCESS)
    return "drift failed and said that the token has expired; run again, it had a new one"


@dataclass(frozen=True)
class Story:
    title: str
    tell: Callable[[Company], str]


STORIES = {
    "deploys": Story(
        "A green change deploys: staging, then production once approved and signed", at_first_it_is_all_made
    ),
    "failing-test": Story("A change with a failing test does not", a_failing_test_stops_it),
    "bad-model": Story("A model v3 is stopped at the canary and rolled back", a_bad_model_is_stopped),
    "killed-runner": Story("A runner is killed in mid-wave; the next run goes on", a_killed_runner_is_no_harm),
    "drift": Story(
        "What somebody changed by hand is reported, and repaired by hand", what_somebody_changed_by_hand_is_reported
    ),
    "edit": Story("An edit of workflow.yml: merge request, staging, production", an_edit_reaches_production),
    "two-pushes": Story("Two pushes at once: one waits", two_pushes_at_once),
    "stale-plan": Story("An approval of a plan that is no longer true is refused", an_approval_of_what_is_no_longer_so),
    "tokens": Story("Tokens of another audience or branch are refused", only_this_branch_and_this_audience),
    "expired": Story("Expired credentials are named; the next run continues", credentials_that_have_expired),
}


def prepare(company: Company) -> str:
    """A new cloud, devices, GitLab and everybody's keys."""
    company.sandbox("clean")
    company.sandbox("up")
    company.found({"TWINOPS_TESTS": QUICK_TESTS})
    with ThreadPoolExecutor() as pool:
        list(pool.map(company.bootstrap, ENVIRONMENTS))
    company.open_for_pushes()
    return f"GitLab: {company.folder}; its repository: {company.bare}"


def main(chosen: list[str]) -> int:
    """Tell all stories in a new world, or those that are named in the one that an earlier run has left (KEEP=1)."""
    company = Company(load({**DEFAULTS, **{name: os.environ[name] for name in DEFAULTS if name in os.environ}}))
    unknown = set(chosen) - STORIES.keys()
    if unknown:
        print(
            f"make pipeline: STORIES: expected some of {', '.join(STORIES)}, got {', '.join(unknown)}", file=sys.stderr
        )
        return 2
    steps: dict[str, Story] = (
        {} if chosen and company.is_open else {"": Story("A company on this machine: accounts, GitLab, keys", prepare)}
    )
    steps |= {name: STORIES[name] for name in chosen or STORIES}
    began = time.monotonic()
    try:
        for number, (name, story) in enumerate(steps.items(), start=1):
            print(f"[{number}/{len(steps)}] {story.title}{f' ({name})' if name else ''}", flush=True)
            started = time.monotonic()
            print(f"      {story.tell(company)} ({time.monotonic() - started:.0f} s)", flush=True)
    except (StoryError, PipelineError, OSError, ValueError) as error:
        print(f"\nmake pipeline: {error}\nlogs of the jobs: {company.folder}/jobs", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmake pipeline: interrupted", file=sys.stderr)
        return 130
    finally:
        if not os.environ.get("KEEP"):
            company.sandbox("down")
    print(f"all of it in {time.monotonic() - began:.0f} s; logs of the jobs: {company.folder}/jobs")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
