"""The servers of one endpoint: the least busy one takes the next request, a dead one is set aside and tried again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from strop.models.endpoints.pacing import Pacer
from strop.models.endpoints.retrying import backoff

FIRST_ASIDE_S = 0.5
LONGEST_ASIDE_S = 30.0
ALONE_S = 2.0
"""How long a server that has not said anything yet has one request alone, so that a wrong key is tried once."""


@dataclass(slots=True)
class Replica:
    """One server and what is known of its health; all times are seconds of one clock.

    Attributes:
        url: Its base URL.
        pacer: How many requests it gets at once.
        strikes: Connections in a row that did not come about.
        proven: Whether it has taken a request since it was opened or last set aside.
        answered_s: When it last said anything; None before.
        aside_until: When a server that was set aside is tried again.
    """

    url: str
    pacer: Pacer
    strikes: int = 0
    proven: bool = False
    answered_s: float | None = None
    aside_until: float = 0.0
    _aside_since: float = -1.0
    _tried_s: float = 0.0

    def room(self, now: float) -> bool:
        """Say whether it may have one more request."""
        if now < self.aside_until:
            return False
        if self.proven or (self.strikes == 0 and self.pacer.flying and now - self._tried_s >= ALONE_S):
            return self.pacer.flying < self.pacer.limit
        return self.pacer.flying == 0

    def free_at(self, now: float) -> float:
        """Return when it may take a request that it cannot take now, as far as that depends on time alone."""
        if now < self.aside_until:
            return self.aside_until
        return self._tried_s + ALONE_S if not self.proven and self.pacer.flying else float("inf")

    def start(self, now: float) -> None:
        """Take note of a request that goes out."""
        if self.pacer.flying == 0:
            self._tried_s = now
        self.pacer.start(now)

    def land(self, now: float, *, latency: float, refused: bool) -> None:
        """Take note of a server that spoke."""
        self.strikes, self.proven, self.answered_s = 0, True, now
        self.pacer.land(now, latency=latency, refused=refused)

    def miss(self, now: float, *, started: float) -> bool:
        """Take note of a connection that did not come about; say whether the server is set aside because of it.

        Requests that were on their way when it was set aside count once.
        """
        self.pacer.leave()
        if started < self._aside_since:
            return False
        self.strikes += 1
        self.proven, self._aside_since = False, now
        self.aside_until = now + backoff(self.strikes, first=FIRST_ASIDE_S, longest=LONGEST_ASIDE_S)
        return True


@dataclass(slots=True)
class Replicas:
    """All servers of an endpoint.

    Attributes:
        all: In the order of the configuration.
    """

    all: list[Replica]
    _turn: int = field(default=0)

    def choose(self, now: float) -> Replica | None:
        """Return the server with the fewest requests in flight that may have one more; ties take turns."""
        open_ones = [replica for replica in self.all if replica.room(now)]
        if not open_ones:
            return None
        fewest = min(replica.pacer.flying for replica in open_ones)
        least = [replica for replica in open_ones if replica.pacer.flying == fewest]
        self._turn += 1
        return least[self._turn % len(least)]

    def next_room(self, now: float) -> float:
        """Return when a server may be tried again without one of its requests coming back."""
        return min(replica.free_at(now) for replica in self.all)

    @property
    def limit(self) -> int:
        """How many requests may be in flight at all servers that are not set aside, at least one."""
        return max(1, sum(replica.pacer.limit for replica in self.all if replica.strikes == 0))

    def given_up(self, now: float, *, retries: int, patience: float) -> bool:
        """Say whether no server can be reached and waiting longer is of no use.

        A server that has answered before is waited for longer, for it may be starting again.
        """
        return all(
            replica.strikes > retries and (replica.answered_s is None or now - replica.answered_s >= patience)
            for replica in self.all
        )


def open_replicas(urls: Sequence[str], *, most: int) -> Replicas:
    """Return the servers at `urls`, each with at most `most` requests in flight."""
    return Replicas([Replica(url, Pacer(most)) for url in urls])
