"""What the API tells of changes to datasets and of what is in them; `views.DatasetView` is the dataset."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MemberView:
    """A file inside a tar: its name as stored there, where its bytes begin in the tar, how many they are."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class TarView:
    """A tar file of a dataset, by its number, and its first members; `more` when it has others.

    `problem` says why the listing ends early; it is empty while the archive is sound.
    """

    file: int
    members: list[MemberView] = field(default_factory=list)
    more: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class VerifiedView:
    """What a recheck found.

    `good` of `pieces` are on disk; `damaged`: the numbers of those that were believed to be and are not.
    `refetching`: they are fetched again.
    """

    infohash: str
    name: str
    pieces: int
    good: int
    damaged: list[int]
    refetching: bool


@dataclass(frozen=True, slots=True)
class RemovedView:
    """A dataset that is forgotten; `kept`: where its files still are, empty when nothing of it is left."""

    infohash: str
    name: str
    kept: str
