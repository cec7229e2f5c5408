"""Statistics of grades and levels as functions of arrays: intervals, corrected prevalence, odds ratios, metrics,
calibration. Nothing here reads a cohort."""
