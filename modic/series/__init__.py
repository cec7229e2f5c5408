"""Header rows → series and pairs: contrast, stacks, geometry, and the T1 and T2 of each study."""
