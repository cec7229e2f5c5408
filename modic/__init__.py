"""Batch grading of Modic changes in retrospective cohorts of lumbar MRI."""
