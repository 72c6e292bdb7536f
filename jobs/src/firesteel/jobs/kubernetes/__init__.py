"""What a plan needs to run on Kubernetes, as files to be looked at, changed and applied: by spark-submit or by the Spark operator."""
