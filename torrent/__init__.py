"""The data-layer core: BitTorrent as pure functions and state machines, no IO, no clock.

Rooms, bottom up: ``errors``, ``bencode``, ``geometry``, ``bitfield``, ``metainfo``, ``hashing``,
``messages``, ``tar``; ``partial``, ``picker``, ``blame``, ``choker``, ``rate``; ``peer``, ``download``,
``upload``; ``events``, ``swarm``.
"""
