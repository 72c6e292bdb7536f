"""The RDMA shuffle: a node service, its transports over TCP and RDMA verbs, and the Spark plugin. Usable in any Spark application."""
