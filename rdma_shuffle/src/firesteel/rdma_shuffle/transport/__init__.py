"""Transports that move blocks between nodes: the `Transport` protocol, TCP, and RDMA verbs."""
