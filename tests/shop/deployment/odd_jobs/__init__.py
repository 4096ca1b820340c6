"""Jobs that only tests queue."""
