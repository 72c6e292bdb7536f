"""Submit a plan to a cluster: package it with its code and Python environment, run spark-submit, collect the result."""
