"""The clocks of the watch: which time counts against a device (docs/protocol.md W1, W4)."""

from collections.abc import Iterable

from sqlalchemy import Connection, select

from server.store.landmark_uptime import load_landmark_uptime
from server.store.schema import WINDOWS
from server.store.spans import Interval, Spans, at_least
from server.store.uptime import load_uptime
from server.store.watch_types import Able, AbleLandmark, AbleSite, SiteKey
from verifier.units import LandmarkId

CATCH_UP_US = 6 * 3_600_000_000
"""The longest catch-up window (docs/protocol.md W4)."""


class SiteClocks:
    """Time in which the service was up and no maintenance window of the site ran.

    Args:
        connection: In one transaction.
        since: What is asked lies after it, microseconds.
        now: And before it.
    """

    def __init__(self, connection: Connection, since: int, now: int) -> None:
        self.now = now
        self._service = load_uptime(connection, since)
        self._windows: dict[tuple[str, str], list[Interval]] = {}
        query = select(WINDOWS.c.license_number, WINDOWS.c.site_id, WINDOWS.c.starts_at, WINDOWS.c.ends_at)
        for row in connection.execute(query.where(WINDOWS.c.ends_at > since, WINDOWS.c.starts_at < now)):
            self._windows.setdefault((row.license_number, row.site_id), []).append((row.starts_at, row.ends_at))
        self._clocks: dict[SiteKey, Spans] = {}
        self._dues: dict[tuple[SiteKey, int], int | None] = {}

    def of(self, site: SiteKey) -> Spans:
        """Return a site's clock."""
        found = self._clocks.get(site)
        if found is None:
            # A window that names no site is of all sites of its license.
            windows = [*self._windows.get(site, ()), *self._windows.get((site.license_number, ""), ())]
            found = self._clocks[site] = self._service.without(Spans(windows))
        return found

    def is_over(self, site: SiteKey, since: int, allowed_us: int) -> bool:
        """Whether more than `allowed_us` has run since a time."""
        key = site, allowed_us
        if key not in self._dues:
            self._dues[key] = self.of(site).latest_start(self.now, allowed_us + 1)
        due = self._dues[key]
        return due is not None and since <= due


class PresenceClocks:
    """Time of the site's clock in which enough domains were up that could have proven the presence there.

    Args:
        connection: In one transaction.
        sites: Clocks of the sites.
        able: Which domains could prove which site.
        since: What is asked lies after it, microseconds.
    """

    def __init__(self, connection: Connection, sites: SiteClocks, able: Able, since: int) -> None:
        self._sites = sites
        self._able = able
        self._up = load_landmark_uptime(connection, since, sites.now)
        # Sites that the same landmarks prove share their times.
        self._shared: dict[tuple[int, frozenset[tuple[AbleLandmark, ...]]], Spans] = {}
        self._clocks: dict[SiteKey, tuple[Spans, Spans]] = {}

    def is_over(self, site: SiteKey, since: int, allowed_us: int, cadence_us: int) -> bool:
        """Whether more than `allowed_us` has run since a time, and devices had time to catch up after an outage."""
        able, clock = self._of(site)
        due = clock.latest_start(self._sites.now, allowed_us + 1)
        if due is None or since > due:
            return False
        # docs/protocol.md W4: the catch-up window, when the domains were away in the meantime.
        back = able.last_start(self._sites.now)
        if back is None or back <= since:
            return True
        return clock.between(back, self._sites.now) >= min(cadence_us, CATCH_UP_US)

    def _of(self, site: SiteKey) -> tuple[Spans, Spans]:
        found = self._clocks.get(site)
        if found is None:
            known = self._able.get(site)
            able = Spans() if known is None else self._able_time(known)
            found = self._clocks[site] = able, self._sites.of(site).both(able)
        return found

    def _able_time(self, known: AbleSite) -> Spans:
        key = known.needed, frozenset(known.domains.values())
        found = self._shared.get(key)
        if found is None:
            domains = [self._domain_time(landmarks) for landmarks in known.domains.values()]
            found = self._shared[key] = at_least(known.needed, domains)
        return found

    def _domain_time(self, landmarks: Iterable[AbleLandmark]) -> Spans:
        intervals: list[Interval] = []
        for landmark in landmarks:
            intervals += self._up.get(landmark.landmark_id, Spans()).clipped(landmark.since)
        return Spans(intervals)


def short_sites(able: Able, up: frozenset[LandmarkId]) -> frozenset[SiteKey]:
    """Return the sites at which fewer domains than needed are up that could prove presence."""

    def is_up(landmarks: Iterable[AbleLandmark]) -> bool:
        return any(landmark.landmark_id in up for landmark in landmarks)

    return frozenset(key for key, site in able.items() if sum(map(is_up, site.domains.values())) < site.needed)
