"""Which rank plays what, from what the ranks found; and worlds that are not what was started."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcens.errors import UsageError
from hpcens.roles.rank_roles import Hello, assign_roles, check_world, extend_roles, most_readers_and_reducers
from hpcens.vocabulary import Device, cpu_devices


def hellos(*ranks_and_devices):
    """One Hello a rank, nodes one after another: (ranks, devices) a node."""
    found = []
    for node, (ranks, devices) in enumerate(ranks_and_devices):
        offered = cpu_devices(f"n{node}", "model", count=devices, cores=1, memory=1)
        found += [Hello(len(found) + i, f"n{node}", offered, "mpi") for i in range(ranks)]
    return found


def test_one_node():
    made = assign_roles(hellos((4, 2)))
    assert (made.readers, made.reducers) == ((0,), (1,))
    assert {rank: device.name for rank, device in made.devices.items()} == {2: "n0/cpu0", 3: "n0/cpu1"}
    assert [made.role(rank) for rank in range(5)] == ["reader", "reducer", "device n0/cpu0", "device n0/cpu1", "parked"]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=5), st.randoms())
def test_any_order_of_ranks_gives_every_device_one_rank_of_its_node(surplus_and_devices, random):
    nodes = [(devices + surplus + 2, devices) for surplus, devices in surplus_and_devices]
    first, *rest = hellos(*nodes)
    random.shuffle(rest)
    shuffled = [first, *(Hello(i + 1, h.node, h.devices, h.library) for i, h in enumerate(rest))]
    made = assign_roles(shuffled)
    assert sorted(d.name for d in made.devices.values()) == sorted({d.name for h in shuffled for d in h.devices})
    assert all(d.name.startswith(shuffled[rank].node + "/") for rank, d in made.devices.items())
    assert len({*made.readers, *made.reducers, *made.devices}) == 2 + len(made.devices)


def test_too_few_ranks_are_counted_and_located():
    with pytest.raises(UsageError, match=r"the plan needs 5 ranks .* 4 were started: n0 has 4 ranks and 3 devices"):
        assign_roles(hellos((4, 3)))
    with pytest.raises(UsageError, match="n1 has 1 ranks and 2 devices"):
        assign_roles(hellos((4, 2), (1, 2)))
    with pytest.raises(UsageError, match="1 were started"):
        assign_roles(hellos((1, 1)))


def test_worlds_that_are_not_what_was_started():
    with pytest.raises(UsageError, match=r"srun started 6 ranks, but each finds itself alone in a world of 1"):
        check_world(1, 6, "srun")
    with pytest.raises(UsageError, match="the plan needs 6 ranks; srun started 5"):
        check_world(5, 6, "srun")
    check_world(8, 6, "srun")


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(1, 6), st.integers(1, 4))
def test_further_readers_go_to_other_nodes_and_reducers_stay_on_one(surplus, readers, reducers):
    said = hellos(*((spare + 2 * (not node) + 1, 1) for node, spare in enumerate(surplus)))
    node = {hello.rank: hello.node for hello in said}
    made = extend_roles(assign_roles(said), said, readers=readers, reducers=reducers)
    assert made.readers[0] == 0 and made.reducers[0] == 1
    assert len({*made.readers, *made.reducers, *made.devices}) == len(made.readers) + len(made.reducers) + len(surplus)
    assert {node[rank] for rank in made.reducers} == {"n0"} and len(made.reducers) == min(reducers, 1 + surplus[0])
    left = sum(surplus) - len(made.reducers) + 1
    assert len(made.readers) == min(readers, 1 + left)
    free = {node[rank] for rank in node if made.role(rank) == "parked"}
    crowd = [sum(node[rank] == at for rank in made.readers) for at in free]
    busiest = max(sum(node[rank] == at for rank in made.readers) for at in set(node.values()))
    assert all(busiest <= count + 1 for count in crowd), "a node with room has as many readers as any, or one fewer"


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.booleans())
def test_there_is_room_for_a_reader_a_node_and_for_reducers_beside_the_first_both_at_once(surplus, apart):
    """apart: the reducer sits on another node than the first reader, which has a rank of its own alone there."""
    ranks = [((spare + 2 * (not node) + 1), 1) for node, spare in enumerate(surplus)]
    said = hellos(*([(1, 0), (ranks[0][0] - 1, 1), *ranks[1:]] if apart else ranks))
    node = {hello.rank: hello.node for hello in said}
    rank_roles = assign_roles(said)
    readers, reducers = most_readers_and_reducers(rank_roles, said)
    made = extend_roles(rank_roles, said, readers=readers, reducers=reducers)
    assert (len(made.readers), len(made.reducers)) == (readers, reducers)
    assert len({node[rank] for rank in made.readers}) == readers, "each on a node of its own"
    spare = {node[rank] for rank in node if made.role(rank) == "parked"}
    assert spare <= {node[rank] for rank in made.readers} - {node[made.reducers[0]]}, "no node is left without"
    assert made.farthest == max(made.devices, key=lambda rank: (node[rank] != node[0], rank))


def test_the_rank_of_a_gpu_is_told_its_uuid_whatever_number_it_has_there():
    """Ranks of one node may see GPUs in different orders, or one each: the first of every rank is another."""
    first, second = (Device(f"n/cuda{i}", "cuda", "cuda A100", 1, 1, i, "n") for i in range(2))
    both = Hello(0, "n", (first, second), "mpi", ("GPU-a", "GPU-b"))
    found = [
        both,
        *(Hello(rank, "n", (first,), "mpi", (uuid,)) for rank, uuid in ((1, "GPU-b"), (2, "GPU-b"), (3, "GPU-a"))),
    ]
    made = assign_roles(found)
    assert dict(made.gpus) == {2: "GPU-b", 3: "GPU-a"}
    assert assign_roles(hellos((4, 2))).gpus == {}
