"""What a job would take, before anything is seeded, sent or paid: the answer to `train --dry-run`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import trio

from p2pml.errors import UserError
from p2pml.formats import uploads
from p2pml.node.job_members import eligible
from p2pml.node.job_prepare import checked_price, divided, file_clients, load_data, model_of
from p2pml.node.ports import NodeParts
from p2pml.node.terms import settlements
from p2pml.node.views import QuotedPeerView, QuoteView
from p2pml.node.work_limits import most_steps
from p2pml.training.sampling import sample_size
from p2pml.training.spec import JobSpec


async def quote(spec: JobSpec, base_dir: Path, parts: NodeParts) -> QuoteView:
    """What a job would take now.

    Args:
        spec: of the job.
        base_dir: relative paths in the spec start here.
        parts: of the node.

    Raises:
        UserError: data, model or budget do not fit the spec; says which and why.
    """
    limits, fee = spec.peers, parts.chain.genesis.params.min_fee
    found = eligible(list(parts.trainers()), limits)
    every, fees = settlements(spec, fee)
    peers = [QuotedPeerView(peer.name, peer.peer, peer.rating, peer.busy) for peer in found]
    clients = min(limits.max, len(found)) if spec.data.clients == "auto" else spec.data.clients
    known = QuoteView(
        spec.name, spec.rounds.max, spec.budget, parts.chain.balance(parts.keys.public), every, fees * fee,
        limits.min, peers, clients,
    )  # fmt: skip
    if spec.data.partition.kind == "by_seed":
        return replace(known, unknown="the data is not looked for before the job begins")
    if spec.data.partition.kind == "by_owner":
        return replace(known, unknown="the owners of the private data say when the job begins how much it is")
    try:
        path = await parts.data.local(spec.data.train, base_dir)
    except UserError as error:
        return replace(known, unknown=f"the data is not on this node: {error.cause}")
    return await trio.to_thread.run_sync(_measured, known, spec, base_dir, path)


def _measured(known: QuoteView, spec: JobSpec, base_dir: Path, path: Path) -> QuoteView:
    data = load_data(spec, path)
    model = model_of(spec, base_dir, data)
    known = replace(known, clients=file_clients(spec, data) or known.clients)
    clients = known.clients or 1
    train, _, shares = divided(spec, data, clients)
    samples = [len(share) for share in shares]
    peers = max(1, min(spec.peers.max, len(known.peers), clients))
    delivered = min(clients, sample_size(clients, spec.peers.sample) + spec.peers.backup)
    return replace(
        known,
        params=model.params,
        samples=sum(samples),
        price=checked_price(spec, samples),
        steps=most_steps(spec.train.samples_of_round(max(samples)), spec.train.batch, spec.train.epochs),
        shards=(train.x.nbytes + train.y.nbytes) * min(2, peers),
        per_round=4 * model.params * peers + uploads.size(spec.transport.upload, model.params) * delivered,
    )
