"""Feature views: one definition, one meaning, several engines."""
