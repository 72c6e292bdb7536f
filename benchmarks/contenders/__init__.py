"""What scoring is held against: each file one way to do the same work, as its own users would write it."""
