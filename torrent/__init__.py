"""The data-layer core: BitTorrent as pure functions and state machines, no IO, no clock.

Rooms, bottom up: ``errors``, ``bencode``, ``geometry``, ``bitfield``, ``paths``, ``files``, ``hashing``,
``merkle``, ``metainfo_fields``, ``metainfo_v1``, ``metainfo_v2``, ``metainfo``, ``tar``; ``messages``,
``rate``, ``config``; ``priorities``, ``pieceset``, ``availability``, ``stock``, ``partial``, ``picker``,
``blame``, ``slots``, ``choker``, ``pipeline``; ``peer``, ``download``, ``upload``; ``events``, ``swarm``.
"""
