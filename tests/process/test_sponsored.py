"""Newcomers become validators on a network of real daemons, and the network decides on its baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from p2pml.cli.local_network import TOKEN, LocalNode, free_ports
from p2pml.home import Home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster(start_cluster: Callable[..., Any]) -> Iterator[Any]:
    """Three founders without workers."""
    with start_cluster(3, workers=False) as cluster:
        yield cluster


def test_a_newcomer_without_tokens_joins_by_a_sponsoring_invite(
    cluster: Any, p2pml: Callable[..., Any]
) -> None:
    sponsor = cluster.nodes[0]
    cluster.wait_same_head()
    made = p2pml("invite", "--sponsor", "--bond", "2", "--json", home=sponsor.home.root)
    assert made.code == 0, made.err
    text = made.json["invite"]
    assert made.json["sponsor"]["bond"] == 2 * TOKEN

    node = joined(cluster, p2pml, text, "late")
    cluster.start(node)
    cluster.wait("it has not caught up", lambda: validator(p2pml, node, node.address))
    for witness in (sponsor, node):
        found = validator(p2pml, witness, node.address)
        assert (found["name"], found["rating"], found["bond"]) == ("late", 0, 2 * TOKEN)
    shown = p2pml("validator", "show", home=node.home.root)
    assert (shown.code, "rating 0" in shown.err) == (0, True)
    assert p2pml("wallet", "balance", home=node.home.root).out == "0\n"
    assert p2pml("chain", "supply", "--json", home=node.home.root).json["adds_up"]

    again = p2pml("join", text, home=node.home.root)  # says where it stands, and pays nothing again
    assert (again.code, "registered in block" in again.err) == (0, True)
    other = p2pml("join", text, *options("other"), home=cluster.root / "other")
    assert (other.code, "used as often as it may" in other.err) == (1, True)
    poor = p2pml("validator", "register", "--bond", "5", home=node.home.root)
    assert (poor.code, "has 0 tokens" in poor.err) == (1, True)
    with_wallet(cluster, p2pml, node)

    sponsor.request_stop()
    assert sponsor.wait_stopped(60) == 0
    gone = p2pml("join", text, *options("third"), home=cluster.root / "third")
    assert (gone.code, "cannot be asked" in gone.err) == (5, True)
    cluster.start(sponsor)  # and after a restart it still knows who has used the invite
    assert "registered in block" in p2pml("join", text, home=node.home.root).err


def options(name: str) -> list[str]:
    port, api_port = free_ports(2)
    given = ["--name", name, "--listen", "127.0.0.1", "--no-trainer"]
    return [*given, "--port", str(port), "--api-port", str(api_port)]


def joined(cluster: Any, p2pml: Callable[..., Any], text: str, name: str) -> LocalNode:
    """A node in a home of its own, registered by who made the invite; not started."""
    home = Home(cluster.root / name)
    given = options(name)
    done = p2pml("join", text, *given, "--json", home=home.root)
    assert done.code == 0, done.err
    assert "the inviter has signed transaction" in done.err
    assert f"registered in block {done.json['block']}" in done.err
    node = LocalNode(name, home, int(given[-3]), int(given[-1]), done.json["peer_id"], done.json["account"])
    node.extra_env["TMPDIR"] = str(cluster.scratch)
    cluster.nodes.append(node)
    return node


def validator(p2pml: Callable[..., Any], node: LocalNode, address: str) -> Any:
    listed = p2pml("chain", "validators", "--json", home=node.home.root).json
    return next((item for item in listed if item["address"] == address), None)


def with_wallet(cluster: Any, p2pml: Callable[..., Any], node: LocalNode) -> None:
    """A wallet of the newcomer's adds to its bond and changes its name."""
    home = node.home.root
    wallet = p2pml("wallet", "new", "savings", home=home).out.strip()
    assert p2pml("wallet", "send", wallet, "3", home=cluster.nodes[1].home.root).code == 0
    cluster.wait_same_head()
    done = p2pml("validator", "register", "--from", "savings", "--bond", "1", "--name", "later", home=home)
    assert done.code == 0, done.err
    found = validator(p2pml, node, node.address)
    assert (found["name"], found["bond"]) == ("later", 3 * TOKEN)


def test_voters_decide_on_another_baseline(cluster: Any, p2pml: Callable[..., Any]) -> None:
    first, second = cluster.nodes[:2]
    before = p2pml("chain", "params", home=first.home.root).out
    assert "bundled digits, quality 0.75 to 0.95" in before
    assert "no open proposals" in before
    proposed = p2pml("validator", "propose-baseline", "11" * 20, "--q-ref", "960000", home=first.home.root)
    assert proposed.code == 0, proposed.err
    proposal = proposed.out.split()[0]
    cluster.wait_same_head()
    (seen,) = p2pml("chain", "params", "--json", home=second.home.root).json["proposals"]
    assert (seen["id"], seen["support"], seen["needed"]) == (proposal, 10, 20)
    assert proposal[:16] in p2pml("chain", "params", home=second.home.root).out
    wrong = p2pml("validator", "approve", "00" * 32, home=second.home.root)
    assert (wrong.code, "names no open proposal" in wrong.err) == (2, True)
    approved = p2pml("validator", "approve", proposal[:16], home=second.home.root)
    assert approved.code == 0, approved.err
    after = p2pml("chain", "params", "--json", home=second.home.root).json
    assert after["proposals"] == []
    coming = after["coming"][0]["baseline"] if after["coming"] else after["baseline"]
    assert (coming["infohash"], coming["q_min"], coming["q_ref"]) == ("11" * 20, 750_000, 960_000)
