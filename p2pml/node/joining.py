"""Joining a network by an invite: the genesis is got and checked before anything is written. Where the invite
says so, the inviter then registers the new node as a validator.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pml.config import Config
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home
from p2pml.node.genesis_file import read_genesis
from p2pml.node.invite import Invite, check_genesis
from p2pml.node.setup import set_up

if TYPE_CHECKING:
    from p2pml.net.host import Host
    from p2pml.net.sponsor_exchange import Answer, Question

ASK_S = 20.0
AGAIN_S = 1.0
INCLUDED_S = 300.0


def join(home: Home, invite: Invite, given: Mapping[str, Any]) -> dict[str, str]:
    """Make the home a member of the invite's network.

    Args:
        home: may exist, without a network or with this one.
        invite: where to, and by whom.
        given: values for config.toml that are not None.

    Returns:
        As `set_up`.

    Raises:
        UserError: the home is another network's, or has a config.toml without the invite's addresses; the
            genesis cannot be had or is a wrong one.
    """
    _check_home(home, invite)
    content = invite.genesis or _fetch(invite)
    genesis = check_genesis(content, invite.chain_id)
    settings: dict[str, Any] = dict(given)
    if not home.config_file.exists():
        settings["bootstrap"] = list(invite.addresses)
    with tempfile.TemporaryDirectory(prefix="p2pml-join-") as folder:
        file = Path(folder) / "genesis.json"
        file.write_text(genesis.to_json(), encoding="utf-8")
        return set_up(home, settings, file)


def _check_home(home: Home, invite: Invite) -> None:
    if home.genesis_file.exists():
        present = read_genesis(home.genesis_file)
        if present.chain_id != invite.chain_id:
            raise UserError(
                f"the home {home.root} belongs to the network {present.chain_name!r} already",
                "use another --home for another network",
                ExitCode.BAD_CONFIG,
            )
    if home.config_file.exists():
        missing = [item for item in invite.addresses if item not in Config.load(home).bootstrap]
        if missing:
            listed = ", ".join(f'"{item}"' for item in missing)
            raise UserError(
                f"{home.config_file} exists already and is yours to edit",
                f"add to its bootstrap: {listed}; then join again",
                ExitCode.BAD_CONFIG,
            )


def _fetch(invite: Invite) -> bytes:
    import trio

    from p2pml.net.errors import RemoteError
    from p2pml.net.genesis_exchange import fetch_genesis

    try:
        return trio.run(fetch_genesis, invite.addresses, invite.chain_id, strict_exception_groups=True)
    except* RemoteError as group:
        problem = group
    raise UserError(
        f"the genesis of {invite.network!r} cannot be fetched: {problem.exceptions[0]}",
        "ask the inviter to start their node and check its port with `p2pml doctor`",
        ExitCode.NETWORK,
    )


def register_by(home: Home, invite: Invite, told: Callable[[Answer], None]) -> Answer:
    """Have the inviter register this home's node, and wait until a block has the registration.

    Args:
        home: made by `join`.
        invite: with a sponsor.
        told: hears each of the inviter's answers that differs from the one before.

    Returns:
        The last answer: the transaction's id, and the block's height.

    Raises:
        UserError: the inviter cannot be reached or refuses, or no block has it in time. The home stays, and
            joining again goes on from there.
    """
    import trio

    question = _question(home, invite)
    found = trio.run(_ask_until_included, invite, question, told, strict_exception_groups=True)
    if isinstance(found, UserError):
        raise found
    return found


def _question(home: Home, invite: Invite) -> Question:
    from chain.producer import ProposerKeys
    from chain.transactions import Register
    from p2pml.identity import NodeKeys
    from p2pml.net.sponsor_exchange import Question
    from p2pml.node.registering import agreed

    terms = invite.sponsor
    assert terms is not None
    keys = NodeKeys.load(home)
    own = ProposerKeys.from_seeds(keys.validator, keys.vrf)
    wish = Register(own.public, own.vrf_public, Config.load(home).name, terms.bond, sequence=1)
    return Question(invite.chain_id, terms.secret, agreed(own, invite.chain_id, wish, terms.account))


async def _ask_until_included(
    invite: Invite, question: Question, told: Callable[[Answer], None]
) -> Answer | UserError:
    """Under a key that is used for this only: the node itself may be running meanwhile. What went wrong is
    returned: raised in here it would come out in groups.
    """
    import trio

    from p2pml.net.errors import RemoteError
    from p2pml.net.host import Host
    from p2pml.net.sponsor_exchange import Outcome

    taken: Answer | None = None
    async with Host(os.urandom(32), port=None).running() as host:
        until = trio.current_time() + INCLUDED_S
        while trio.current_time() < until:
            try:
                answer = await _ask(host, invite.addresses, question)
            except RemoteError as error:
                if taken is None:
                    return _unreachable(error)
                await trio.sleep(AGAIN_S)  # it has signed: it may only be away for a moment
                continue
            if answer.outcome is Outcome.REGISTERED and taken is not None:
                return taken
            if answer.outcome is not Outcome.TAKEN:
                return _refused(answer)
            if answer != taken:
                told(answer)
            if answer.height:
                return answer
            taken = answer
            await trio.sleep(AGAIN_S)
    return UserError(
        "the inviter has signed the registration, but no block has it yet",
        "join with the same invite again to see how far it is",
        ExitCode.NETWORK,
    )


async def _ask(host: Host, addresses: tuple[str, ...], question: Question) -> Answer:
    from p2pml.net.errors import RemoteError, Unreachable
    from p2pml.net.sponsor_exchange import MAX_BYTES, PROTOCOL, Answer

    problems = []
    for address in addresses:
        try:
            peer = await host.connect(address)
            message = await host.request(peer, PROTOCOL, question.to_message(), ASK_S, MAX_BYTES)
            return Answer.from_message(message)
        except (RemoteError, ValueError) as error:
            problems.append(f"{address}: {error}")
    raise Unreachable("; ".join(problems) or "no address is given")


def _unreachable(error: Exception) -> UserError:
    return UserError(
        f"the inviter, who would pay for the registration, cannot be asked: {error}",
        "ask them to start their node, then join with the same invite again; this home is a member already",
        ExitCode.NETWORK,
    )


def _refused(answer: Answer) -> UserError:
    from p2pml.net.sponsor_exchange import Outcome

    new = "this home is a member of the network already; ask the inviter for another invite"
    causes = {
        Outcome.EXPIRED: ("the invite has expired: the inviter no longer pays for it", new),
        Outcome.USED_UP: ("the invite has been used as often as it may", new),
        Outcome.UNKNOWN: ("the inviter's node does not know this invite", new),
        Outcome.OTHER_NETWORK: ("the inviter's node belongs to another network now", new),
        Outcome.NO_MEANS: (
            "the inviter has not enough tokens for bond and fee",
            "tell them, then join with the same invite again",
        ),
        Outcome.OTHER_TERMS: ("the inviter does not accept this registration", new),
        Outcome.REGISTERED: (
            "this node is a validator already",
            "start it with `p2pml daemon`; see `p2pml validator show`",
        ),
        Outcome.BARRED: (
            "this node's account is barred for contradicting itself",
            "join with another --home",
        ),
        Outcome.BUSY: (
            "the inviter's node cannot do it now",
            "join with the same invite again in a minute",
        ),
    }
    cause, fix = causes[answer.outcome]
    return UserError(cause, fix)
