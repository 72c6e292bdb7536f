"""Blocks by RDMA READ between services; one idea a module."""
