"""Approximate nearest neighbours over a collection: derived files, an exact delta on top, every score computed exactly."""
