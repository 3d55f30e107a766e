"""Names of everything twinops owns in AWS; the table is in docs/interfaces.md.

Every name starts with ``twinops-<env>-``, so that an IAM policy can be scoped by name alone.
"""

from __future__ import annotations

from dataclasses import dataclass

OWNER_TAG = "twinops:owner"
OWNER = "twinops"
ENVIRONMENT_TAG = "twinops:environment"
PART_TAG = "twinops:part"
"""The role of Ansible that declares a resource: what a run that declares only some parts must leave alone."""
NAME_TAG = "twinops:name"
"""The name of what has no name in AWS (EC2, keys). People edit ``Name`` in the console, this one they leave alone."""

COMPOSITE = "any-"
"""Starts the names of composite alarms, after the prefix of the environment."""

ENVIRONMENTS = ("sandbox", "staging", "production")
TWINS = ("development", "deployment")


@dataclass(frozen=True)
class Names:
    """The names of one environment. ``account`` is only needed for buckets, whose names are global."""

    env: str
    account: str = ""

    @property
    def prefix(self) -> str:
        return f"twinops-{self.env}-"

    def role(self, purpose: str) -> str:
        """``purpose``: mlops, dispatch, development-twin, deployment-twin, device, scheduler, host or deploy."""
        return self.prefix + purpose

    def policy(self, purpose: str) -> str:
        """``purpose``: boundary, data-access or deploy-<what it lets the deploy role do>."""
        return self.prefix + purpose

    def bucket(self, purpose: str) -> str:
        """``purpose``: models, reports, data or state."""
        return f"{self.prefix}{purpose}-{self.account}"

    def twin(self, twin: str) -> str:
        """Notebook instance, and its lifecycle configuration, of ``development`` or ``deployment``."""
        return self.prefix + twin

    def function(self, purpose: str) -> str:
        """``purpose``: dispatch, backup or watchdog."""
        return self.prefix + purpose

    def alarm(self, purpose: str) -> str:
        """An alarm on the machinery, such as ``dead-letters``."""
        return self.prefix + purpose

    def workflow_alarm(self, what: str, workflow: str) -> str:
        """``what``: failed, missing or performance. In front: no alarm of the machinery can have the same name."""
        return f"{self.prefix}{what}-{workflow}"

    def composite_alarm(self, purpose: str) -> str:
        """An alarm on other alarms; by its name as its ARN does not tell it from an alarm on a metric."""
        return f"{self.prefix}{COMPOSITE}{purpose}"

    def rule(self, workflow: str) -> str:
        return self.prefix + workflow

    def workflow_log_group(self, workflow: str) -> str:
        return f"/twinops/{self.env}/workflows/{workflow}"

    def function_log_group(self, purpose: str) -> str:
        return f"/aws/lambda/{self.function(purpose)}"

    @property
    def ledger(self) -> str:
        return self.prefix + "ledger"

    @property
    def topic(self) -> str:
        return self.prefix + "workflows"

    @property
    def layer(self) -> str:
        return self.prefix + "websocket-client"

    def schedule(self, workflow: str) -> str:
        """In :attr:`schedule_group`, of a workflow with a time zone of its own; as its rule would be named."""
        return self.rule(workflow)

    @property
    def schedule_group(self) -> str:
        return self.prefix + "workflows"

    @property
    def watchdog_rule(self) -> str:
        """With a hyphen, which no workflow's name has."""
        return self.prefix + "watchdog-tick"

    @property
    def key(self) -> str:
        """KMS key; ``alias/`` and this is its alias."""
        return self.prefix + "data"

    @property
    def dashboard(self) -> str:
        return self.prefix + "workflows"

    @property
    def dead_letters(self) -> str:
        return self.prefix + "dead-letters"

    @property
    def network(self) -> str:
        """The VPC."""
        return self.prefix + "network"

    def subnet(self, purpose: str) -> str:
        """``purpose``: private-1, private-2, ... (one a zone), or public."""
        return self.prefix + purpose

    def route_table(self, purpose: str) -> str:
        """``purpose``: private or public."""
        return self.prefix + purpose

    def security_group(self, purpose: str) -> str:
        """``purpose``: twins, host, endpoints; or default, which AWS makes with the VPC."""
        return self.prefix + purpose

    def endpoint(self, service: str) -> str:
        """``service``: as AWS names it after ``com.amazonaws.<region>.``, such as s3 or sagemaker.api."""
        return self.prefix + service.replace(".", "-")

    @property
    def internet_gateway(self) -> str:
        return self.prefix + "internet"

    @property
    def nat(self) -> str:
        """The NAT gateway and its address."""
        return self.prefix + "nat"

    @property
    def host(self) -> str:
        """The instance on which Airflow and Ansible run, and its instance profile."""
        return self.prefix + "host"

    @property
    def metric_namespace(self) -> str:
        return f"twinops/{self.env}"

    @property
    def tags(self) -> dict[str, str]:
        """The tags of everything that can be tagged: they mark what twinops may change and remove."""
        return {ENVIRONMENT_TAG: self.env, OWNER_TAG: OWNER}
