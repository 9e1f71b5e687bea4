"""Configured instances of what the platform runs on."""
