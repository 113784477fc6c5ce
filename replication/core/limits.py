"""Every default of the product in one table: durations carry their unit, sizes say it in the name.

Source of the figures: docs/design/timing.md. Relations between them are tested in tests/core/test_limits.py.
"""

from datetime import timedelta
from typing import Final

AGENT_PORT: Final = 5389
DATABASE_PORT: Final = 3307

HELLO_INTERVAL: Final = timedelta(seconds=0.5)
HELLO_INTERVAL_MIN: Final = timedelta(seconds=0.2)
HELLO_INTERVAL_MAX: Final = timedelta(seconds=60)
HOUSEKEEPING_INTERVAL: Final = timedelta(minutes=1)
HOUSEKEEPING_INTERVAL_MIN: Final = timedelta(seconds=10)
HOUSEKEEPING_INTERVAL_MAX: Final = timedelta(days=1)
"""Pace of the housekeeping: what is older than its retention goes in small batches."""
HOUSEKEEPING_LEASE: Final = timedelta(seconds=12)
HOUSEKEEPING_RENEWAL: Final = timedelta(seconds=2)
"""Its leader's lease, and how often that is renewed; shorter than LEASE_SILENCE, or its light would flicker."""
WORKER_HEARTBEAT: Final = timedelta(seconds=5)
"""How often a service worker, leading or standing by, says that it is there."""
WORKER_SILENCE: Final = timedelta(seconds=16)
"""A worker that has said nothing for this long, three times running, counts as no standby."""
WORKER_FORGOTTEN: Final = timedelta(minutes=10)
"""When the row of a worker that died is thrown away."""
LAG_SAMPLE: Final = timedelta(seconds=5)
"""How often the leader writes down how far each fallback is behind."""
SILENCE_LIMIT: Final = timedelta(seconds=1.5)
"""A node that has not answered for this long is silent; never less than three hello intervals."""
HELLO_MARGIN: Final = timedelta(seconds=0.5)
"""How much longer than the interval the controller waits for the answer of a long poll."""
TICK: Final = timedelta(milliseconds=25)
"""Pace of the controller's own clock; silence is counted in ticks, TICK_CAP each at most."""
TICK_CAP: Final = timedelta(milliseconds=50)

PING_INTERVAL: Final = timedelta(milliseconds=100)
PING_DEADLINE: Final = timedelta(milliseconds=500)
PROCESS_TICK: Final = timedelta(milliseconds=10)
"""How often the agent looks for PF_EXITING in /proc/PID/stat."""
WITNESS_DEADLINE: Final = timedelta(milliseconds=100)
WITNESS_INTERVAL: Final = timedelta(milliseconds=50)
DISK_INTERVAL: Final = timedelta(seconds=1)
"""How often the agent tries whether its disk takes a write."""
DISK_DEADLINE: Final = timedelta(seconds=2)
"""A write that has not come back for this long: the disk takes none."""
HEARTBEAT_PERIOD: Final = timedelta(milliseconds=250)
"""MASTER_HEARTBEAT_PERIOD of every replica."""
HEARD_LIMIT: Final = timedelta(seconds=1.5)
"""A replica still hears its primary when a heartbeat or an event moved within this time."""

LEADER_LEASE: Final = timedelta(seconds=1.2)
LEADER_RENEWAL: Final = timedelta(seconds=0.4)
LEADER_MARGIN: Final = timedelta(seconds=0.2)
"""The holder stops acting this long before its own clock says that the lease is over."""

METADATA_PATIENCE: Final = timedelta(seconds=1)
"""How long the service waits for a metadata database over TCP: to connect, and for each answer. Whole seconds."""
PRIMARY_LEASE: Final = timedelta(seconds=3)
"""A lossless primary that no controller has confirmed for this long closes itself, unless all other nodes grant."""
PRIMARY_LEASE_MARGIN: Final = timedelta(seconds=1)
"""The last part of the lease, in which its agent asks the other nodes."""
GRANT: Final = timedelta(seconds=2)
"""How long the lease runs from the beginning of a round of asking in which every other node granted."""
GRANT_DEADLINE: Final = timedelta(seconds=0.5)
"""How long the others may take to answer."""
FENCE_READ_ONLY: Final = timedelta(seconds=1)
"""How long a primary whose lease is over may take to become read-only; then it is killed."""
LEASE_RENEWAL: Final = timedelta(seconds=1)
"""A primary's lease is renewed at least this often, however long the hello interval is."""
LEASE_SILENCE: Final = timedelta(seconds=5)
"""A lease that was not renewed for this long: nobody looks, so nothing is known and every screen says so."""

ACKER_LOST_AFTER: Final = timedelta(seconds=1.5)
"""How long the acker may be gone, or commits may hang, before the vault goes solo."""
ACKER_STEADY_FOR: Final = timedelta(seconds=1.0)
"""How long a replica must have streamed without a break before it may become the acker: the hysteresis."""
ACKER_MAX_BEHIND: Final = 1000
"""Transactions a replica may be behind, received, when it is made the acker."""
RESTART_GRACE: Final = timedelta(seconds=5)
"""How long the agent of a lossless primary keeps a dead mariadbd down, for the controller to decide."""
SETTINGS_CHECK: Final = timedelta(seconds=5)

STEP_DEADLINE: Final = timedelta(seconds=5)
"""Deadline of an ordinary verb, counted by the sender and carried in the command."""
DRAIN_DEADLINE: Final = timedelta(seconds=60)
START_DEADLINE: Final = timedelta(seconds=60)
PROOF_DEADLINE: Final = timedelta(seconds=2)
"""How long a new acker may take to prove that it has everything, while commits already wait for it."""
PREFLIGHT_DEADLINE: Final = timedelta(seconds=4)
"""The check of a new host has ended by then, whatever hangs; the form waits a second longer (PREFLIGHT_WAIT)."""
PROBE_DEADLINE: Final = timedelta(seconds=1)
"""How long an agent that was asked to look around waits for each connection, and for the size of its data."""
CLOCK_APART: Final = timedelta(seconds=2)
"""Two clocks that differ by more than this are warned about."""
CLOCK_APART_MAX: Final = timedelta(days=1)
"""By so much certificates are dated back: between clocks further apart a new one does not count yet."""
CERTIFICATE_SOON: Final = timedelta(days=30)
"""A certificate that ends within this time is warned about."""

OPERATION_DEADLINE: Final = timedelta(minutes=5)
"""An operation of the service that has not ended by then has failed; what is still needed is a new one."""
CLOSE_DEADLINE: Final = timedelta(seconds=2)
"""How long the primary may take to close for a switchover, and its target to receive the rest; then it is given back."""
SWITCHOVER_MAX_LAG: Final = timedelta(seconds=5)
SWITCHOVER_MAX_TRANSACTION: Final = timedelta(seconds=2)
"""A client's transaction that has been open for longer on the primary speaks against a switchover: it would be rolled back."""
SWITCHOVER_BEGIN: Final = timedelta(seconds=30)
"""A switchover that was asked for and has not begun within this time has failed: nobody is surprised by it later."""

SILENCE_HOLD: Final = timedelta(seconds=60)
"""How long a vault must have been lossless after a failover on silence before the next such one; doubled each time up to
SILENCE_HOLD_MAX, and back to this when the last one is longer ago than SILENCE_HOLD_FORGET."""
SILENCE_HOLD_MAX: Final = timedelta(minutes=10)
SILENCE_HOLD_FORGET: Final = timedelta(hours=1)

GTID_GAP: Final = 1_000_000
"""Sequence numbers skipped by the first write of a new primary, so that a lost GTID is never issued again."""
RETRY_AFTER: Final = timedelta(seconds=2)
"""A procedure that failed is not tried again sooner; doubled each time up to RETRY_MAX."""
RETRY_MAX: Final = timedelta(seconds=30)

COPY_MIB_PER_SECOND: Final = 50
"""Default throttle of a full copy and of a backup."""
COPY_BEGIN: Final = timedelta(seconds=60)
"""How long the target of a full copy waits for its first byte, and for the next one once it flows."""
COPY_HOLDS_COMMITS: Final = timedelta(seconds=5)
"""How long the end of a full copy or backup may hold up the commits of its source, before it is broken off."""
KEEP_OLD_HOURS: Final = 24
"""How long the data of before a full copy is kept after the copy was compared with the primary and found equal."""
VERIFY_EVERY_HOURS: Final = 24
BACKUP_EVERY_HOURS: Final = 24
BACKUPS_KEPT: Final = 7

COMPARE_DUTY: Final = 0.25
"""Part of the time that the servers work for a comparison; the rest of it they have for their clients."""
COMPARE_CHUNK: Final = timedelta(milliseconds=100)
"""What the checksum of one range of rows should take: the number of its rows follows from the last one."""
COMPARE_STATEMENT: Final = timedelta(seconds=5)
"""No statement of a comparison takes longer: a change of a table waits for it."""
COMPARE_HOLD: Final = timedelta(seconds=1)
"""How long rows whose checksums differ may be held at the primary while the fallback is asked for them; clients that change
them wait."""
COMPARE_REACH: Final = timedelta(milliseconds=400)
"""How long a fallback may take to apply what the primary had when the rows were held."""
COMPARE_WAIT_MAX: Final = timedelta(seconds=10)
"""How long a fallback may take to apply what the primary had when it was read."""
COMPARE_TURN: Final = timedelta(seconds=60)
"""A comparison that has asked for nothing for this long makes room for another one."""
