"""Real clusters as processes on one machine, for the demo, tests and `make cluster-up`. Everything binds 127.0.0.1."""
