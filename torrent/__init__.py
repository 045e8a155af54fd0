"""The data-layer core: BitTorrent as pure functions and state machines, no IO, no clock.

Rooms, bottom up: ``errors``, ``bencode``, ``geometry``, ``bitfield``, ``paths``, ``hashing``,
``metainfo``, ``tar``; ``messages``, ``rate``, ``config``; ``availability``, ``partial``, ``picker``,
``blame``, ``choker``, ``pipeline``; ``peer``, ``download``, ``upload``; ``events``, ``swarm``.
"""
