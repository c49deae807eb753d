"""The stages of the pipeline, a module each, and the job that runs one of them."""

from softlabels.pipeline.stages.base import Job
from softlabels.pipeline.stages.job import run_job

__all__ = ["Job", "run_job"]
