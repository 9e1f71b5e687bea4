"""What a prediction server allows a request, a client and a version."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits of one worker.

    ``deadline``: how long a request may take, waiting included; a client may ask for less. ``waiting``: how many
    requests may wait for the worker; more are told to come again (429). ``version_deadline``: how long a version that
    is not trusted yet may take before the champion answers. ``isolate``: whether such versions run in a process of
    their own. ``may_choose_version``: whether a client may ask for a version. ``mirrors_waiting``: how many answers may
    wait to be mirrored; more are not mirrored.
    """

    deadline: timedelta = timedelta(seconds=2)
    waiting: int = 64
    version_deadline: timedelta = timedelta(milliseconds=250)
    isolate: bool = True
    may_choose_version: bool = False
    mirrors_waiting: int = 1000
    max_body_bytes: int = 8 * 1024 * 1024
    body_deadline: timedelta = timedelta(seconds=10)
    plan_deadline: timedelta = timedelta(seconds=60)
