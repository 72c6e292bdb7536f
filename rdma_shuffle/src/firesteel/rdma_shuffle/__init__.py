"""The RDMA shuffle. Today: the probe of devices and limits that `firesteel doctor` shows."""
