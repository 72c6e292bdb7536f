"""Rows of a step, and the scores of a sample, without publishing anything."""
