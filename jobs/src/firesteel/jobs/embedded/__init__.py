"""Run real clusters as processes on 127.0.0.1, for the demo, tests and `make cluster-up`."""
