"""The RDMA verbs transport: blocks move between services by RDMA READ."""
