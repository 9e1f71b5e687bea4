"""Rollouts judged by bets that may be looked at at every tick."""
