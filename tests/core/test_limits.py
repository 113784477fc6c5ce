"""How the figures of core/limits.py must relate, whatever they are; docs/design/timing.md names each of them."""

from datetime import timedelta
from pathlib import Path

import pytest

from replication.core import limits as l
from replication.core.snapshot import Snapshot, VaultConfig, view_of
from replication.procedures.controller.failover import FENCE_PATIENCE
from replication.procedures.controller.heartbeat import PACE
from replication.procedures.controller.sight import REFUSED_PAUSE
from replication.procedures.controller.watch import URGENT_RETRY
from replication.procedures.vault.primary import CLOSE_TRIES
from tests.builders import topology

TIMING = Path(__file__).parents[2] / "docs" / "design" / "timing.md"


def test_a_leader_renews_twice_and_still_has_its_margin() -> None:
    assert l.LEADER_LEASE > 2 * l.LEADER_RENEWAL + l.LEADER_MARGIN


def test_a_leader_that_misses_its_renewal_stops_before_the_next_one_starts() -> None:
    assert timedelta() < l.LEADER_MARGIN < l.LEADER_RENEWAL
    assert 2 * l.TICK < l.LEADER_MARGIN, "the watch sees the end of the lease within the margin"


def test_silence_is_at_least_three_hellos() -> None:
    assert l.SILENCE_LIMIT >= 3 * l.HELLO_INTERVAL


@pytest.mark.parametrize(
    "interval", [l.HELLO_INTERVAL_MIN, l.HELLO_INTERVAL, timedelta(seconds=7), l.HELLO_INTERVAL_MAX]
)
def test_silence_grows_with_the_trigger_interval(interval: timedelta) -> None:
    view = view_of(
        VaultConfig(topology=topology()), (), Snapshot(interval=interval), acker_missing_for=timedelta(), high_water=0
    )
    assert view.thresholds.silence >= 3 * interval
    assert view.thresholds.silence >= l.SILENCE_LIMIT


def test_the_default_interval_is_one_that_may_be_set() -> None:
    assert l.HELLO_INTERVAL_MIN <= l.HELLO_INTERVAL <= l.HELLO_INTERVAL_MAX


def test_a_replica_hears_several_heartbeats_before_it_calls_the_primary_silent() -> None:
    assert l.HEARD_LIMIT >= 4 * l.HEARTBEAT_PERIOD
    assert l.HEARD_LIMIT >= l.HELLO_INTERVAL + 2 * l.HEARTBEAT_PERIOD, "the age of a report counts against it"


def test_a_heard_primary_is_forgotten_by_the_time_it_counts_as_silent() -> None:
    assert l.HEARD_LIMIT <= l.SILENCE_LIMIT


def test_a_stalled_controller_accuses_nobody() -> None:
    assert l.TICK <= l.TICK_CAP < l.SILENCE_LIMIT / 10


def test_the_second_opinion_comes_well_within_the_silence() -> None:
    assert l.WITNESS_DEADLINE + l.WITNESS_INTERVAL < l.SILENCE_LIMIT / 4


def test_a_hung_database_is_seen_by_its_agent_before_its_silence_would_be() -> None:
    assert l.PING_INTERVAL + l.PING_DEADLINE < l.SILENCE_LIMIT


def test_stuck_commits_are_released_after_the_limit_but_never_for_one_old_report() -> None:
    assert l.HELLO_INTERVAL < l.ACKER_LOST_AFTER
    assert timedelta(seconds=2.5) >= l.ACKER_LOST_AFTER + l.HELLO_INTERVAL, "promised: writes stop no longer than this"


def test_an_acker_is_steady_for_longer_than_a_report_is_old() -> None:
    assert l.ACKER_STEADY_FOR > l.HELLO_INTERVAL


def test_the_controller_decides_before_an_agent_restarts_a_dead_lossless_primary() -> None:
    assert l.RESTART_GRACE > l.LEADER_LEASE + l.SILENCE_LIMIT


def test_a_proof_is_short_because_commits_wait_for_it() -> None:
    assert l.PROOF_DEADLINE < l.STEP_DEADLINE < l.DRAIN_DEADLINE


def test_retries_back_off() -> None:
    assert URGENT_RETRY < l.RETRY_AFTER < l.RETRY_MAX
    assert REFUSED_PAUSE < l.HELLO_INTERVAL_MIN


def test_a_wish_is_read_within_one_default_interval() -> None:
    assert PACE <= l.HELLO_INTERVAL


def test_a_failover_does_not_wait_long_for_its_fence() -> None:
    assert FENCE_PATIENCE < l.HELLO_INTERVAL


def test_the_gap_is_larger_than_what_an_acker_may_be_behind() -> None:
    assert l.GTID_GAP > 100 * l.ACKER_MAX_BEHIND


def test_a_primary_is_renewed_twice_before_its_agent_begins_to_ask_the_others() -> None:
    assert l.PRIMARY_LEASE - l.PRIMARY_LEASE_MARGIN >= 2 * l.LEASE_RENEWAL
    assert l.PRIMARY_LEASE > l.LEADER_LEASE + l.LEASE_RENEWAL, "a hand-over of the leadership closes no primary"
    assert l.GRANT_DEADLINE < l.PRIMARY_LEASE_MARGIN < l.GRANT, "asked, and answered, before it is over"


def test_a_switchover_is_shorter_than_a_client_waits() -> None:
    assert max(CLOSE_TRIES) < l.CLOSE_DEADLINE
    assert sum(CLOSE_TRIES, timedelta()) < l.CLOSE_DEADLINE, "the agent gives up by itself, and says why"
    assert l.PROOF_DEADLINE <= l.CLOSE_DEADLINE < l.STEP_DEADLINE
    assert l.SWITCHOVER_MAX_TRANSACTION <= l.CLOSE_DEADLINE, "what may be open is over, or ended, by then"


def test_a_switchover_that_has_not_begun_is_over_before_its_operation_would_be() -> None:
    assert 2 * l.HELLO_INTERVAL < l.SWITCHOVER_BEGIN < l.OPERATION_DEADLINE


def test_an_operation_outlives_the_longest_step_and_its_retries() -> None:
    assert l.OPERATION_DEADLINE > l.START_DEADLINE + l.DRAIN_DEADLINE + 2 * l.RETRY_MAX


def test_the_hold_after_a_failover_on_silence_grows_and_is_forgotten() -> None:
    assert 10 * l.SILENCE_LIMIT < l.SILENCE_HOLD < l.SILENCE_HOLD_MAX < l.SILENCE_HOLD_FORGET


def test_a_primary_whose_hellos_come_in_time_never_asks_for_grants() -> None:
    assert l.PRIMARY_LEASE - l.PRIMARY_LEASE_MARGIN > l.LEASE_RENEWAL + l.HELLO_INTERVAL
    assert l.PRIMARY_LEASE - l.PRIMARY_LEASE_MARGIN >= 3 * l.HELLO_INTERVAL


def test_the_other_nodes_are_asked_twice_before_a_lease_ends_and_again_before_a_grant_does() -> None:
    assert l.PRIMARY_LEASE_MARGIN >= 2 * l.GRANT_DEADLINE
    assert l.GRANT > l.PRIMARY_LEASE_MARGIN + l.GRANT_DEADLINE


def test_a_lease_outlives_what_decides_about_its_primary() -> None:
    assert l.PRIMARY_LEASE > l.SILENCE_LIMIT + l.LEADER_LEASE, "a change of leader closes no primary"


def test_a_disk_that_hangs_is_told_later_than_a_busy_one_takes_and_sooner_than_a_command() -> None:
    assert l.PING_DEADLINE < l.DISK_DEADLINE < l.STEP_DEADLINE


def test_every_figure_is_explained() -> None:
    text = TIMING.read_text()
    missing = [name for name in vars(l) if name.isupper() and f"`{name}`" not in text]
    assert missing == []


def test_the_housekeeping_s_leader_is_seen_to_live_and_replaced_in_seconds() -> None:
    assert 2 * l.HOUSEKEEPING_RENEWAL < l.LEASE_SILENCE, "its light would flicker"
    assert 3 * l.HOUSEKEEPING_RENEWAL < l.HOUSEKEEPING_LEASE - l.LEADER_MARGIN, "two renewals may fail"


def test_a_worker_counts_as_gone_only_after_three_signs_of_life_that_did_not_come() -> None:
    assert 3 * l.WORKER_HEARTBEAT < l.WORKER_SILENCE < l.WORKER_FORGOTTEN
