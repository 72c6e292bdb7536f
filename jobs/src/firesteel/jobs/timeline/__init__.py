"""What a run's executors did: added, busy, idle, removed and why, read from Spark's own event log."""
