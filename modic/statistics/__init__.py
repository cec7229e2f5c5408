"""Statistics that know no cohort: intervals, corrected prevalence, odds ratios, metrics, calibration."""
