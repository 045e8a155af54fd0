"""Records about ratings and the windows that give them, as the API has them: shares are fractions of 1,
factors and quality ppm, windows named by their first slot, accounts addresses.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OutcomeView:
    """What a window gave: `rating` before misses of audits count, `reason` in words. `window_ms` is its
    length, `duties` the audits that the node was drawn for, `missed` those that it did not report.
    """

    window: int
    start_ms: int
    window_ms: int
    rating: int
    segments: int
    quality: int
    quality_factor: int
    energy_factor: int
    reason: str
    duties: int
    missed: int


@dataclass(frozen=True, slots=True)
class OddsView:
    """A weight in the table of an epoch: `share` is the probability of being drawn first for a slot."""

    epoch: int
    weight: int
    share: float


@dataclass(frozen=True, slots=True)
class EnergyView:
    """What a node told of the latest window that it committed to; `samples_per_joule` null where it told no
    energy.
    """

    window: int
    segments: int
    joules: int
    samples_per_joule: int | None


@dataclass(frozen=True, slots=True)
class RatingView:
    """A validator's rating, and what it is made of.

    `rating` is in force at the head, `earned` what the outcomes give: `median` (the lower one) x `delivered`
    (ppm, less for audits missed), 0 where two of them are 0; all three null before the first outcome, when
    the rating is that of the genesis. `expires_epochs` counts finalized epochs until it ends, null where it
    does not end by itself; `expires_ms` is when that is if every epoch becomes final. `since` is the slot of
    the registration. `odds` has the table that draws now and the one that is decided on for three epochs on.
    `advice` says what would raise the rating.
    """

    address: str
    name: str
    own: bool
    rating: int
    barred_epochs: int
    expires_epochs: int | None
    expires_ms: int | None
    since: int
    outcomes: list[OutcomeView]
    median: int | None
    delivered: int | None
    earned: int | None
    odds: list[OddsView]
    energy: EnergyView | None
    advice: list[str]


@dataclass(frozen=True, slots=True)
class RankView:
    """A line of the leaderboard. `segments`, `quality` and `reason` are of the node's latest outcome (null
    before the first), `rated` counts those of its last three that gave something. `energy` as `RatingView`.
    """

    place: int
    address: str
    name: str
    own: bool
    rating: int
    share: float
    segments: int | None
    quality: int | None
    reason: str | None
    outcomes: int
    rated: int
    expires_epochs: int | None
    energy: EnergyView | None


@dataclass(frozen=True, slots=True)
class PhaseView:
    """A part of a window: its first slot, the first after it, and when they begin."""

    name: str
    first: int
    end: int
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class WindowView:
    """A window.

    `slots` are those of its training, which begins eight before `start`. `phase` is that of the slot that was
    asked about, null before it is announced and after its end. `over`: it was closed; `void`: it has no
    challenges, or it was closed and rated nobody. `claims` counts commitments, `revealed` those whose
    evaluations are revealed, `disproved` those against which an accusation held, `open_challenges` questions
    that wait for an answer, `reports` auditors whose reports are opened.
    """

    start: int
    start_ms: int
    slots: int
    surprise: bool
    over: bool
    void: bool
    phase: PhaseView | None
    phases: list[PhaseView]
    claims: int
    revealed: int
    disproved: int
    open_challenges: int
    reports: int


@dataclass(frozen=True, slots=True)
class WindowsView:
    """`latest` is the window planned, under way, or closed last (null before the first); `next` the slot that
    names the next one that is known of, `begins` the one in which it is announced and training begins.
    `window_slots` are those of a regular window's training.
    """

    slot: int
    slot_ms: int
    every_slots: int
    window_slots: int
    next: int
    begins: int
    begins_ms: int
    latest: WindowView | None
