"""`inside` needs RDMA devices: on a machine without any, test_guest.py runs it in a guest that has two."""

from __future__ import annotations

from support.rdma import RDMA_DEVICES

collect_ignore = [] if RDMA_DEVICES else ["inside"]
