"""What runs a plan: the command line, Spark, gates, tracking, reports and embedded clusters."""
