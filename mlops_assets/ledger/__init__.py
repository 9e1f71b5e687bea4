"""The record of every decision: an append-only hash chain, and the state it adds up to."""
