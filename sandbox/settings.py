"""What a person can set about the sandbox: the one place that reads ``SANDBOX_*``.

Standard library only and Python 3.9: the dynamic inventory and the emulator import it too.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent

REGION = "eu-central-1"
ACCOUNT = "123456789012"
PROFILE = "twinops-sandbox"
REDSHIFT_CLUSTER = "twinops-sandbox"
REDSHIFT_DATABASE = "plant"
SSH_PORT = 2222
HEALTH_PORT = 8080
DEVICES_DEFAULT = 6
DEVICES_MAX = 100

# The environment variable by which every process of a sandbox is found again, whatever killed its parent.
MARKER = "TWINOPS_SANDBOX"

# sun_path holds 108 bytes; the longest socket below SANDBOX_HOME is a device's supervisor socket.
HOME_LENGTH_MAX = 108 - len("/devices/device-001/opt/twinops/run/supervisord.sock") - 1


# AWS's documented rates of what a deployment calls most, in calls a second; Lambda's control plane counts together.
DOCUMENTED_RATES = {
    "lambda:*": 15.0,
    "lambda:GetFunction": 100.0,
    "lambda:InvokeFunction": 1000.0,
    "logs:PutRetentionPolicy": 5.0,
    "monitoring:PutMetricAlarm": 3.0,
    "events:*": 50.0,
    "events:PutEvents": 400.0,
}


class SettingsError(Exception):
    """A ``SANDBOX_*`` variable that cannot work. The message names it, its value and what was expected."""


@dataclass(frozen=True)
class Settings:
    """Where one sandbox lives. Two sandboxes of one machine differ in all of home, port and network."""

    home: Path
    port: int
    network: str
    devices: int | None  # None: not set; the running sandbox's number, else DEVICES_DEFAULT
    confirmed_mail: tuple[str, ...]  # patterns of addresses whose owner confirms subscriptions at once
    aws_rates: dict[str, float]  # calls a second by "service:Operation" or "service:*"
    aws_latency_ms: int  # how much longer than the emulator AWS takes to answer a call
    iam_delay_s: int  # how long after it was made Lambda cannot assume a role
    lambda_retry_s: int  # before Lambda tries a failed event again; before the second time twice as long

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def state_file(self) -> Path:
        """Written by ``up``: what the running sandbox was brought up with."""
        return self.home / "run/sandbox.json"

    def device_address(self, number: int) -> str:
        """Device ``number`` (from 1) has the network's address plus its number."""
        return str(ipaddress.IPv4Address(self.network) + number)

    def device_root(self, name: str) -> Path:
        return self.home / "devices" / name

    def edge_root(self, name: str) -> Path:
        return self.device_root(name) / "opt/twinops"

    def credentials_url(self, role: str) -> str:
        """Where a process that is not a person fetches short-lived keys of its role."""
        return f"{self.endpoint_url}/_sandbox/credentials/{role}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment by which a program finds this sandbox, and no other; without the number of its devices."""
        return {
            "SANDBOX_HOME": str(self.home),
            "SANDBOX_PORT": str(self.port),
            "SANDBOX_NETWORK": self.network,
            "SANDBOX_CONFIRMED_MAIL": " ".join(self.confirmed_mail),
            "SANDBOX_AWS_RATES": ",".join(f"{name}={rate}" for name, rate in self.aws_rates.items()),
            "SANDBOX_AWS_LATENCY_MS": str(self.aws_latency_ms),
            "SANDBOX_IAM_DELAY_S": str(self.iam_delay_s),
            "SANDBOX_LAMBDA_RETRY_S": str(self.lambda_retry_s),
        }

    @property
    def aws_environment(self) -> dict[str, str]:
        """The environment by which every AWS client finds this sandbox, and never the caller's account."""
        return {
            "AWS_CONFIG_FILE": str(self.home / "aws/config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.home / "aws/credentials"),
            "AWS_PROFILE": PROFILE,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read and check the settings; raises ``SettingsError`` that lists every mistake."""
    mistakes: list[str] = []
    settings = Settings(
        home=_home(environment.get("SANDBOX_HOME", str(CLONE / ".sandbox")), mistakes),
        port=_number(environment, mistakes, "SANDBOX_PORT", 4566, low=1024, high=65535),
        network=_network(environment.get("SANDBOX_NETWORK", "127.20.0.0"), mistakes),
        devices=_devices(environment, mistakes),
        confirmed_mail=tuple(environment.get("SANDBOX_CONFIRMED_MAIL", "*@example.com").split()),
        aws_rates=_rates(environment.get("SANDBOX_AWS_RATES", ""), mistakes),
        aws_latency_ms=_number(environment, mistakes, "SANDBOX_AWS_LATENCY_MS", 0, low=0, high=60_000),
        iam_delay_s=_number(environment, mistakes, "SANDBOX_IAM_DELAY_S", 0, low=0, high=3600),
        lambda_retry_s=_number(environment, mistakes, "SANDBOX_LAMBDA_RETRY_S", 1, low=1, high=60),
    )
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return settings


def device_count(settings: Settings) -> int:
    """SANDBOX_DEVICES; where it is not set, as many as the running sandbox has, else the default."""
    return settings.devices or running_devices(settings) or DEVICES_DEFAULT


def running_devices(settings: Settings) -> int:
    """How many devices the sandbox was brought up with; 0 when it is down."""
    try:
        return int(json.loads(settings.state_file.read_text())["devices"])
    except (FileNotFoundError, ValueError, KeyError):
        return 0


def device_name(number: int) -> str:
    return f"device-{number:03d}"


def device_names(count: int) -> list[str]:
    return [device_name(number) for number in range(1, count + 1)]


def waves(names: list[str]) -> dict[str, list[str]]:
    """The rollout waves: a few canaries (at least one), about a third early, the rest is the fleet."""
    canaries = max(1, len(names) // 20)
    early = min(len(names) - canaries, round(len(names) / 3))
    return {
        "edge_canary": names[:canaries],
        "edge_early": names[canaries : canaries + early],
        "edge_fleet": names[canaries + early :],
    }


def _home(value: str, mistakes: list[str]) -> Path:
    home = Path(value)
    if not home.is_absolute():
        mistakes.append(f"SANDBOX_HOME: expected an absolute path, got {value!r}")
    elif any(character.isspace() for character in value):
        mistakes.append(f"SANDBOX_HOME: expected a path without white space, got {value!r}")
    elif len(os.fsencode(value)) > HOME_LENGTH_MAX:
        mistakes.append(
            f"SANDBOX_HOME: expected at most {HOME_LENGTH_MAX} bytes (Unix sockets below it may have 108), "
            f"got {len(os.fsencode(value))}: {value}; clone into a shorter path, or set it to a shorter one"
        )
    return home


def _number(
    environment: Mapping[str, str], mistakes: list[str], name: str, default: int, *, low: int, high: int
) -> int:
    text = environment.get(name, str(default))
    if text.isascii() and text.isdigit() and low <= int(text) <= high:
        return int(text)
    mistakes.append(f"{name}: expected a number from {low} to {high}, got {text!r}")
    return default


def _rates(value: str, mistakes: list[str]) -> dict[str, float]:
    """``documented``, and ``service:Operation=calls a second``, with commas between; the later one wins."""
    rates: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in value.split(","))):
        operation, _, number = part.partition("=")
        if part == "documented":
            rates.update(DOCUMENTED_RATES)
        elif re.fullmatch(r"[a-z0-9-]+:(\*|[A-Za-z0-9]+)", operation) and re.fullmatch(r"\d+(\.\d+)?", number):
            rates[operation] = float(number)
        else:
            mistakes.append(
                f"SANDBOX_AWS_RATES: expected documented or service:Operation=calls a second, such as "
                f"logs:PutRetentionPolicy=5 or lambda:*=15, got {part!r}"
            )
    return rates


def _devices(environment: Mapping[str, str], mistakes: list[str]) -> int | None:
    if "SANDBOX_DEVICES" not in environment:
        return None
    return _number(environment, mistakes, "SANDBOX_DEVICES", DEVICES_DEFAULT, low=1, high=DEVICES_MAX)


def _network(value: str, mistakes: list[str]) -> str:
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError:
        mistakes.append(f"SANDBOX_NETWORK: expected an address such as 127.20.0.0, got {value!r}")
        return value
    if not address.is_loopback or int(address) & 0xFF or address == ipaddress.IPv4Address("127.0.0.0"):
        mistakes.append(f"SANDBOX_NETWORK: expected a loopback network 127.x.y.0 (except 127.0.0.0), got {value!r}")
    return value
