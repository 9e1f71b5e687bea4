"""Code locations, and the processes they run in."""
