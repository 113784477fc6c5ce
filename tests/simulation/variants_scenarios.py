"""The scenarios in which the known bugs are looked for. Most follow a shortest trace of the model that found the rule."""

from replication.core.commands import Verb
from tests.simulation.scenarios import Make, Scenario


def primary_killed(m: Make) -> Scenario:
    """And the leader, when it has told the next primary to open."""
    m.fault(m.r.uniform(0.8, 1.5), "crash database", "primary")
    m.on(Verb.OPEN, "kill controller", "leader", after=0.0001, seconds=1.0)
    m.lasts(4)
    return m.done()


def primary_loses_power(m: Make) -> Scenario:
    m.fault(m.r.uniform(0.8, 1.5), "power off", "primary", seconds=m.r.uniform(2.0, 4.0))
    m.lasts(7)
    return m.done()


def primary_isolated(m: Make) -> Scenario:
    m.fault(m.r.uniform(0.8, 1.5), "isolate", "primary", seconds=m.r.uniform(3.0, 6.0))
    m.lasts(5)
    return m.done()


def primary_unseen(m: Make) -> Scenario:
    """Its host stands still until it is replaced; then no controller reaches it, but its acker does."""
    at = m.r.uniform(0.8, 1.2)
    _out_of_reach(m, at, "a", 6.0)
    m.fault(at, "freeze host", "a", seconds=m.r.uniform(1.7, 2.3))
    m.writer(at, "b")
    return m.done()


def acker_cut_off(m: Make) -> Scenario:
    m.fault(m.r.uniform(0.8, 1.5), "cut", "a", "b", seconds=m.r.uniform(2.5, 4.0))
    m.lasts(4)
    return m.done()


def late_solo_after_a_cut(m: Make) -> Scenario:
    """Nothing is ordered between the go-solo and the next become-acker."""
    m.fault(m.r.uniform(0.8, 1.5), "cut", "a", "b", seconds=m.r.uniform(1.6, 2.0))
    _nobody_looks_after(m, Verb.LOSSLESS)
    return m.done(twice=frozenset({Verb.SOLO}))


def acker_killed(m: Make) -> Scenario:
    """Nobody sees it for a while."""
    at = m.r.uniform(0.8, 1.5)
    for controller in ("one", "two"):
        m.fault(at - 0.1, "freeze controller", controller, seconds=1.5)
    m.fault(at, "crash database", "acker")
    m.lasts(3)
    return m.done()


def fallback_killed(m: Make) -> Scenario:
    """The third node, which is no acker, comes back."""
    m.fault(m.r.uniform(0.8, 1.5), "crash database", "c")
    m.lasts(6)
    return m.done(nodes=3)


def late_solo(m: Make) -> Scenario:
    """The acker is lost and comes back; the order to stop waiting arrives once more when it is the acker again, and nobody who
    could correct it looks."""
    m.fault(m.r.uniform(0.8, 1.2), "crash database", "acker")
    _nobody_looks_after(m, Verb.LOSSLESS)
    return m.done(twice=frozenset({Verb.SOLO}))


def _nobody_looks_after(m: Make, verb: Verb) -> None:
    for controller in ("one", "two"):
        m.on(verb, "freeze controller", controller, after=0.1, seconds=4.0)
    m.lasts(10)


def late_orders(m: Make) -> Scenario:
    """Everything that is ordered comes twice, while the primary changes."""
    m.fault(m.r.uniform(0.8, 1.2), "crash database", "acker")
    m.fault(m.r.uniform(4.0, 6.0), "switchover", "acker")
    m.lasts(12)
    return m.done(twice=frozenset(Verb))


def leader_dies_in_failover(m: Make) -> Scenario:
    m.fault(0.8, "crash database", "primary")
    verb = m.r.choice((Verb.REVOKE, Verb.DRAIN))
    m.on(verb, "kill controller", "leader", seconds=m.r.uniform(1.5, 3.0))
    m.lasts(6)
    return m.done()


def leader_dies_after_failover(m: Make) -> Scenario:
    """The former primary comes back when another leads."""
    m.fault(0.8, "power off", "a", seconds=m.r.uniform(5.0, 6.0))
    m.on(Verb.OPEN, "kill controller", "leader", after=0.3, seconds=8.0)
    m.lasts(12)
    return m.done()


def _out_of_reach(m: Make, at: float, node: str, seconds: float) -> None:
    """No controller reaches it."""
    for controller in ("one", "two"):
        m.fault(at, "cut", controller, node, seconds=seconds)


def leader_dies_at_claim(m: Make) -> Scenario:
    """The database hangs, the failover is claimed and no more, the database goes on; the target is away for a while."""
    m.fault(0.75, "kill controller at port", "leader", n=2, seconds=m.r.uniform(4.0, 5.0))
    begin = m.r.uniform(0.8, 1.2)
    m.fault(begin, "freeze database", "primary", seconds=m.r.uniform(1.0, 1.5))
    m.fault(begin + 1.0, "cut", "a", "b", seconds=4.0)
    _out_of_reach(m, begin + 1.0, "b", m.r.uniform(1.3, 1.7))
    m.lasts(6)
    return m.done()


def leader_dies_in_roll_back(m: Make) -> Scenario:
    """As before, but the target is away when the next leader comes, and back when the third does."""
    m.fault(0.75, "kill controller at port", "leader", n=2, seconds=m.r.uniform(1.5, 2.5))
    begin = m.r.uniform(0.8, 1.0)
    m.fault(begin, "freeze database", "a", seconds=m.r.uniform(1.1, 1.6))
    m.fault(begin + 1.0, "cut", "a", "b", seconds=8.0)
    _out_of_reach(m, begin + 1.0, "b", m.r.uniform(2.9, 3.2))
    m.on(Verb.OPEN, "kill controller", "leader", after=0.0001, seconds=3.0)
    m.lasts(10)
    return m.done()


def switchover(m: Make) -> Scenario:
    m.fault(m.r.uniform(0.8, 1.2), "switchover", "acker")
    m.lasts(3)
    return m.done()


def closed_primary_restarts(m: Make) -> Scenario:
    """The primary was closed for a switchover, nobody can tell it more, and its database dies."""
    m.fault(m.r.uniform(0.8, 1.2), "switchover", "acker")
    after = m.r.uniform(0.01, 0.04)
    for controller in ("one", "two"):
        m.on(Verb.CLOSE, "cut", controller, "a", after=after, seconds=9.0)
    m.on(Verb.CLOSE, "crash database", "a", after=after + 0.05)
    m.lasts(10)
    return m.done()


def fenced_primary_unreached(m: Make) -> Scenario:
    """The primary was fenced, and nobody can tell it more."""
    m.fault(m.r.uniform(0.8, 1.2), "freeze database", "a", seconds=3.0)
    for controller in ("one", "two"):
        m.on(Verb.FENCE, "cut", controller, "a", after=m.r.uniform(0.01, 0.02), seconds=9.0)
    m.lasts(10)
    return m.done()


def acker_behind(m: Make) -> Scenario:
    """The acker has received more than it has applied, and the primary dies."""
    at = m.r.uniform(0.8, 1.2)
    m.slow_applier(at, "b")
    m.fault(at + m.r.uniform(0.6, 0.9), "crash database", "a")
    m.lasts(5)
    return m.done()


def both_die(m: Make) -> Scenario:
    """The acker has received more than it has applied, the primary's host is lost, and the acker dies before it has revoked."""
    at = m.r.uniform(0.8, 1.2)
    m.slow_applier(at, "b")
    m.fault(at + m.r.uniform(0.5, 0.8), "power off", "a", seconds=8.0)
    m.on(Verb.REVOKE, "crash database", "b")
    m.lasts(8)
    return m.done()


def both_die_at_once(m: Make) -> Scenario:
    """The acker has applied all, not everything of that is on its disk; the rest as before."""
    m.fault(m.r.uniform(1.0, 2.0), "crash database", "a")
    m.on(Verb.REVOKE, "power off", "a", seconds=8.0)
    m.on(Verb.REVOKE, "crash database", "b")
    m.lasts(8)
    return m.done()


def solo_primary_killed(m: Make) -> Scenario:
    m.fault(0.8, "power off", "b", seconds=5.0)
    m.fault(m.r.uniform(2.5, 4.0), "crash database", "a")
    m.lasts(6)
    return m.done()


def ackers_agent_dies(m: Make) -> Scenario:
    """The acker's agent is away, and the acker goes on acknowledging while another one takes its place."""
    at = m.r.uniform(0.8, 1.2)
    m.fault(at, "kill agent", "b", seconds=10.0)
    m.fault(at + 0.1, "cut", "a", "b", seconds=m.r.uniform(1.9, 2.6))
    m.lasts(10)
    return m.done(nodes=3)


def cut_during_proof(m: Make) -> Scenario:
    """The leader stops between the acker's flag and the proof, and the stream with it."""
    m.on(Verb.ACKER, "freeze controller", "leader", after=0.0001, seconds=0.6)
    m.on(Verb.ACKER, "cut one way", "a", "b", after=m.r.uniform(0.03, 0.3), seconds=2.0)
    m.lasts(8)
    return m.done(warm=False)


def cut_during_switch_on(m: Make) -> Scenario:
    m.on(Verb.LOSSLESS, "cut one way", "a", "b", after=m.r.uniform(0.01, 0.15), seconds=2.0)
    m.lasts(8)
    return m.done(warm=False)


def cold_three(m: Make) -> Scenario:
    m.lasts(6)
    return m.done(nodes=3, warm=False)


def restored_beside_a_silent_primary(m: Make) -> Scenario:
    """Solo, the primary is out of reach, the row of when it was lossless is back, and who leads has never seen the primary."""
    m.fault(0.3, "kill controller", "standby", seconds=10.0)
    m.fault(0.4, "cut", "a", "b", seconds=10.0)
    m.fault(m.r.uniform(3.2, 3.6), "restore metadata", seconds=0.3, n=3100)
    m.fault(3.4, "isolate", "a", seconds=7.0)
    m.fault(3.5, "kill controller", "leader", seconds=0.3)
    return m.done()


def restored_before_another_host_leads(m: Make) -> Scenario:
    """The same, but the leader's host is lost, and the standby's has never led."""
    m.fault(0.4, "cut", "a", "b", seconds=10.0)
    m.fault(m.r.uniform(3.2, 3.6), "restore metadata", seconds=0.3, n=3100)
    m.fault(3.4, "isolate", "a", seconds=7.0)
    m.fault(3.0, "kill controller", "leader", seconds=9.0)
    return m.done()


def restored_without_the_real_primary(m: Make) -> Scenario:
    """After a failover the row of before is back, the new primary out of reach, the old one just returned."""
    m.fault(0.8, "crash database", "a")
    m.on(Verb.FENCE, "isolate", "a", after=m.r.uniform(0.005, 0.02), seconds=3.0)
    m.fault(3.0, "isolate", "b", seconds=5.0)
    m.fault(3.1, "restore metadata", seconds=0.3, n=2500)
    m.lasts(8)
    return m.done(nodes=3)


def leader_frozen_before_its_claim(m: Make) -> Scenario:
    m.fault(0.75, "freeze controller at port", "leader", n=1, seconds=m.r.uniform(4.0, 5.0))
    m.fault(m.r.uniform(0.8, 1.2), "crash database", "primary")
    m.lasts(7)
    return m.done()


def late_hellos(m: Make) -> Scenario:
    """Hellos wait in the network while the primary's agent does not answer."""
    m.fault(m.r.uniform(0.8, 1.2), "noise", seconds=5.0, n=60)
    m.lasts(6)
    return m.done()


def dies_with_a_tail(m: Make) -> Scenario:
    """The primary has written what nobody acknowledged when it dies, and comes back."""
    at = m.r.uniform(0.8, 1.5)
    m.fault(at, "cut", "a", "b", seconds=1.5)
    m.fault(at + m.r.uniform(0.5, 0.9), "crash database", "a")
    m.lasts(7)
    return m.done()


def acker_goes_back(m: Make) -> Scenario:
    """It is rebuilt, becomes the acker again, and goes back to its data of before: those are seconds old by then."""
    m.fault(0.8, "rebuild", "b")
    m.fault(m.r.uniform(8.0, 9.0), "undo", "b")
    m.lasts(11)
    return m.done(nodes=m.r.choice((2, 3)))


def acker_rebuilt_from_a_slow_fallback(m: Make) -> Scenario:
    """What is copied has all been received and is not all applied; nobody else could become the acker meanwhile."""
    m.fault(m.r.uniform(0.9, 1.2), "rebuild", "b")
    m.on(Verb.SEND, "stop applier", "c", after=0.001, seconds=6.0)
    m.prepared.append(lambda simulation: setattr(simulation.hosts["c"].copies, "seconds", (2.0, 4.0)))
    m.lasts(8)
    return m.done(nodes=3)
