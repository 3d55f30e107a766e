"""Settings: defaults, every mistake named at once, and the waves."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.settings import CLONE, HOME_LENGTH_MAX, SettingsError, device_count, device_names, load, waves


def test_defaults() -> None:
    settings = load({})
    assert settings.home == CLONE / ".sandbox"
    assert settings.endpoint_url == "http://127.0.0.1:4566"
    assert settings.device_address(1) == "127.20.0.1"
    assert settings.device_address(100) == "127.20.0.100"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("SANDBOX_PORT", "80", "expected a number from 1024 to 65535, got '80'"),
        ("SANDBOX_PORT", "http", "expected a number"),
        ("SANDBOX_PORT", "²", "expected a number"),
        ("SANDBOX_DEVICES", "0", "expected a number from 1 to 100, got '0'"),
        ("SANDBOX_DEVICES", "101", "expected a number from 1 to 100"),
        ("SANDBOX_NETWORK", "10.0.0.0", "expected a loopback network"),
        ("SANDBOX_NETWORK", "127.20.0.1", "expected a loopback network"),
        ("SANDBOX_NETWORK", "127.0.0.0", "expected a loopback network"),
        ("SANDBOX_NETWORK", "local", "expected an address such as"),
        ("SANDBOX_AWS_RATES", "lambda=5", "such as logs:PutRetentionPolicy=5 or lambda:*=15, got 'lambda=5'"),
        ("SANDBOX_AWS_RATES", "documented,lambda:*=fast", "got 'lambda:*=fast'"),
        ("SANDBOX_AWS_LATENCY_MS", "0.5", "expected a number from 0 to 60000"),
        ("SANDBOX_IAM_DELAY_S", "-1", "expected a number from 0 to 3600"),
        ("SANDBOX_LAMBDA_RETRY_S", "0", "expected a number from 1 to 60"),
        ("SANDBOX_HOME", "relative", "expected an absolute path"),
        ("SANDBOX_HOME", "/a b", "without white space"),
        ("SANDBOX_HOME", f"/{'x' * HOME_LENGTH_MAX}", f"expected at most {HOME_LENGTH_MAX} bytes"),
    ],
)
def test_a_mistake_names_variable_value_and_what_was_expected(variable: str, value: str, expected: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load({variable: value})
    assert str(refused.value).startswith(f"{variable}: ")
    assert expected in str(refused.value)


def test_rates_of_aws() -> None:
    assert load({}).aws_rates == {}
    rates = load({"SANDBOX_AWS_RATES": "documented, lambda:*=7.5,sqs:SendMessage=1"}).aws_rates
    assert (rates["events:*"], rates["lambda:*"], rates["sqs:SendMessage"]) == (50.0, 7.5, 1.0)


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        load({"SANDBOX_PORT": "x", "SANDBOX_DEVICES": "x", "SANDBOX_NETWORK": "x"})
    assert len(str(refused.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (6, (1, 2, 3)), (100, (5, 33, 62))]
)
def test_waves_partition_the_devices(count: int, sizes: tuple[int, ...]) -> None:
    names = device_names(count)
    members = list(waves(names).values())
    assert tuple(map(len, members)) == sizes
    assert [name for wave in members for name in wave] == names


def test_the_number_of_devices_is_the_running_sandboxs_unless_set(tmp_path: Path) -> None:
    assert device_count(load({"SANDBOX_HOME": "/none"})) == 6
    settings = load({})
    running = settings.__class__(**{**vars(settings), "home": tmp_path})
    running.state_file.parent.mkdir()
    running.state_file.write_text('{"devices": 9}')
    assert device_count(running) == 9
    assert device_count(running.__class__(**{**vars(running), "devices": 3})) == 3
