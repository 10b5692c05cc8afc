"""Bulk jobs: many documents are taken in at once, kept on disk, and stored one batch after the other."""

from mmseek.api.server.jobs.jobs import Jobs
from mmseek.api.server.jobs.store import Job, JobFailure

__all__ = ["Job", "JobFailure", "Jobs"]
