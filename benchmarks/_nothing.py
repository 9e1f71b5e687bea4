"""A code location of one job that does nothing."""

import dagster as dg


@dg.op
def rest() -> None:
    """Do nothing."""


@dg.job
def nothing() -> None:
    """Do nothing, once."""
    rest()


defs = dg.Definitions(jobs=[nothing])
