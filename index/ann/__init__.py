"""Approximate nearest neighbours: derived files, an exact delta on top, every score computed exactly."""
