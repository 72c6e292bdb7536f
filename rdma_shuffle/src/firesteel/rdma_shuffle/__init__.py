"""A shuffle service for Spark: it keeps map outputs on their node and serves them to other nodes by RDMA READ or TCP.

`service` is the process on each node. `jar` gives the plugin that connects a Spark application to it. The layers, from the
top down: `service`, `client_connection`, `applications`, `transport`, `memory` and `storage`, `wire` (pyproject.toml).
"""
