"""Memory for pieces on their way, which all swarms of a node share."""

from __future__ import annotations


class Budget:
    """``total`` bytes: as soon as so much is ``used``, swarms finish what they have begun before they begin
    more. A swarm that holds nothing may always begin one piece.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0

    @property
    def spent(self) -> bool:
        return self.used >= self.total
