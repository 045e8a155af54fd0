"""What shaping and cutting a host means, as the text that `tc -batch` and `iptables-restore` read.

Both are read from standard input, so that one host's change is one process and one transaction per table. The
lab has chains of its own and only ever fills those.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pml.scenario.links import Link

CHAIN = "P2PML-LAB"
_NETEM_PACKETS = 200_000
# A rate is kept in slices of this long: shorter ones are lost when a busy machine wakes the kernel's timer
# late.
_BURST_S = 0.01
_MIN_BURST = 6_400
_ETHERNET_HEADER = 14


def _tbf(where: str, link: Link) -> str:
    assert link.rate is not None
    burst = max(_MIN_BURST, int(link.rate / 8 * _BURST_S))
    # The kernel counts Ethernet frames; a link's rate is that of its IP packets.
    return (
        f"qdisc replace {where} stab overhead -{_ETHERNET_HEADER} linklayer ethernet "
        f"tbf rate {link.rate}bit burst {burst}b limit {link.queue + burst}b"
    )


def rate_commands(device: str, link: Link) -> list[str]:
    """`tc` commands that hold what leaves through `device` to the link's rate (or to none)."""
    if link.rate is None:
        return [f"qdisc replace dev {device} root noqueue"]
    return [_tbf(f"dev {device} root handle 2:", link)]


def netem_commands(device: str, link: Link) -> list[str]:
    """`tc` commands that delay, lose and hold to its rate what leaves through `device` towards the host.

    With jitter, netem may reorder packets that follow each other more closely than the jitter.
    """
    if not link.delays:
        return rate_commands(device, link)
    netem = f"qdisc replace dev {device} root handle 1: netem limit {_NETEM_PACKETS}"
    if link.delay_ms:
        netem += f" delay {round(link.delay_ms * 1e3)}us {round(link.jitter_ms * 1e3)}us"
    if link.loss:
        netem += f" loss {link.loss * 100:.6g}%"
    child = f"dev {device} parent 1:1 handle"
    if link.rate is None:
        return [netem, f"qdisc replace {child} 3: pfifo limit {_NETEM_PACKETS}"]
    return [netem, _tbf(f"{child} 4:", link)]


def hook_rules() -> str:
    """`iptables-restore` text that makes the lab's chains and enters them; for a fresh namespace, once."""
    return _tables([], [], hook=True)


def host_rules(device: str, queue: int | None, blocked: Iterable[str]) -> str:
    """`iptables-restore` text that fills the lab's chains of one host.

    Args:
        device: the host's interface.
        queue: NFQUEUE number that arriving packets wait in; None when they are not delayed. There is no
        bypass: when
            nobody holds the queue nothing arrives, rather than everything too early.
        blocked: addresses whose packets are dropped on arrival, also those that were under way already: the
        filter
            table comes after the queue.
    """
    delay = [] if queue is None else [f"-i {device} -j NFQUEUE --queue-num {queue}"]
    return _tables(delay, [f"-i {device} -s {address} -j DROP" for address in sorted(blocked)], hook=False)


def _tables(delay: list[str], cut: list[str], *, hook: bool) -> str:
    lines: list[str] = []
    for table, parent, rules in (("mangle", "PREROUTING", delay), ("filter", "INPUT", cut)):
        lines += [f"*{table}", f":{CHAIN} - [0:0]"]
        lines += [f"-A {parent} -j {CHAIN}"] if hook else []
        lines += [f"-A {CHAIN} {rule}" for rule in rules]
        lines += ["COMMIT"]
    return "\n".join(lines) + "\n"
