"""What a generation remembers of its actions and lanes: all that it must, in bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chronicled.runtimes.action_server.known import RECENT_MAX, DigestSet, SettledActions
from chronicled.runtimes.action_server.lanes import LANES_KEPT_MAX, LaneTable


def test_ten_thousand_settled_actions_take_little() -> None:
    """What is settled is known for ever, and takes some bytes a lane; without positions, 8 bytes an action."""
    settled = SettledActions()
    for number in range(10_000):
        settled.add(f"a{number}", f"lane-{number % 10}", number + 1, number)
    assert settled.entries == 10
    assert all(settled.knows(f"a{number}", f"lane-{number % 10}", number + 1) for number in range(10_000))
    assert not settled.knows("new", "lane-0", 10_001)
    assert settled.offset("a9999") == 9999
    assert settled.offset(f"a{9999 - RECENT_MAX}") == -1
    for number in range(10_000):
        settled.add(f"b{number}", "lane", 0, -1)
    assert settled.entries == 10_010
    assert all(settled.knows(f"b{number}", "lane", 0) for number in range(10_000))
    assert not settled.knows("c", "lane", 0)
    assert settled.knows("a9991", "lane-1", 9992), (
        "the last of its lane, long after its place in the spool is forgotten"
    )


@given(st.lists(st.tuples(st.booleans(), st.text(max_size=3))))
def test_a_digest_set_is_a_set(steps: list[tuple[bool, str]]) -> None:
    """Adding, removing and looking up agree with a set of the names themselves."""
    found, expected = DigestSet(), set[str]()
    for adds, name in steps:
        if adds:
            assert found.add(name)[1] is (name not in expected)
            expected.add(name)
        else:
            assert found.discard(name) is (name in expected)
            expected.discard(name)
        assert len(found) == len(expected)
        assert all(each in found for each in expected)


async def test_forgotten_lanes_are_those_that_hold_nothing() -> None:
    """The table keeps busy lanes and those that hold state; the others make room, the oldest first."""
    table = LaneTable("/")
    table.holds_state = lambda name: name == "holds"
    busy = table.enter("busy")
    for name in ("holds", *(f"lane-{number}" for number in range(2 * LANES_KEPT_MAX))):
        table.leave(table.enter(name))
    assert len(table) == LANES_KEPT_MAX
    assert table.enter("busy") is busy
    table.leave(table.enter("holds"))
    assert table.enter(f"lane-{2 * LANES_KEPT_MAX - 1}").users == 1
