"""How fresh a view's table is: the age of its newest event, and how far it lags behind its dataset."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from mlops_assets.features.view import spoken


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """The newest event of a table and of its dataset (``None``: there is none) at the time ``now``."""

    newest_event: datetime | None
    newest_in_dataset: datetime | None
    now: datetime

    @property
    def age(self) -> timedelta | None:
        """How old the newest event is, 0 if it is future-dated; ``None`` without one."""
        return None if self.newest_event is None else max(self.now - self.newest_event, timedelta(0))

    @property
    def lag(self) -> timedelta | None:
        """How much newer the dataset's newest event is; ``None`` if the table is empty and the dataset is not."""
        if self.newest_in_dataset is None:
            return timedelta(0)
        return None if self.newest_event is None else max(self.newest_in_dataset - self.newest_event, timedelta(0))

    def fault(self, within: timedelta | None) -> str | None:
        """Return why the table is not fresh, ``None`` if it is: it lags behind its dataset, or is too old.

        >>> from datetime import UTC
        >>> noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
        >>> Freshness(newest_event=noon, newest_in_dataset=noon, now=noon + timedelta(days=2)).fault(timedelta(days=1))
        'the newest event is 2 days old, more than 1 day'
        """
        if self.lag is None:
            return "the table is empty, the dataset is not"
        if self.lag:
            return f"the dataset has events {spoken(self.lag)} newer than the newest in the table"
        if within is not None and self.age is not None and self.age > within:
            return f"the newest event is {spoken(self.age)} old, more than {spoken(within)}"
        return None
