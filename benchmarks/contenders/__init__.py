"""The contenders of the scoring benchmark: each file does the same work in another way, as its users would write it."""
