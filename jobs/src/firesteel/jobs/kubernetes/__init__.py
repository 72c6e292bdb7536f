"""Write a plan as Kubernetes files, which users review and apply with spark-submit or the Spark operator."""
