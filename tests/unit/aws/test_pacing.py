"""Pacing: never faster than the documented rates, whatever the threads do; the clock is ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twinops.aws.pacing import BURST_S, SHARE, Pacer


class World:
    """A clock that only moves when somebody sleeps or time is spent."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, pause_s: float) -> None:
        self.now += pause_s


def pacer(world: World, rate: float) -> Pacer:
    return Pacer({"logs": {"PutRetentionPolicy": rate, "*": 100.0}}, sleep=world.sleep, clock=lambda: world.now)


@given(rate=st.sampled_from([3.0, 5.0, 15.0, 50.0]), spent=st.lists(st.floats(0, 2), min_size=1, max_size=200))
def test_no_window_of_a_second_has_more_than_the_rate_and_its_burst(rate: float, spent: list[float]) -> None:
    world = World()
    paced, calls = pacer(world, rate), []
    for pause in spent:
        world.sleep(pause)
        paced.wait("logs", "PutRetentionPolicy")
        calls.append(world.now)
    # AWS's own bucket: `rate` tokens a second, one second's worth kept
    tokens, at = rate, 0.0
    for call in calls:
        tokens, at = min(rate, tokens + (call - at) * rate) - 1, call
        assert tokens >= -1e-6, "AWS would have throttled this call"


def test_a_hundred_calls_take_as_long_as_the_rate_says() -> None:
    world = World()
    paced = pacer(world, 5.0)
    for _ in range(100):
        paced.wait("logs", "PutRetentionPolicy")
    assert world.now == pytest.approx((100 - 5 * SHARE * BURST_S) / (5 * SHARE))


def test_operations_without_a_rate_of_their_own_share_one_and_unknown_services_do_not_wait() -> None:
    world = World()
    paced = Pacer({"lambda": {"GetFunction": 100.0, "*": 1.0}}, sleep=world.sleep, clock=lambda: world.now)
    paced.wait("lambda", "CreateFunction")
    paced.wait("lambda", "GetFunction")
    paced.wait("s3", "PutObject")
    assert world.now == 0
    paced.wait("lambda", "AddPermission")
    assert world.now > 0
