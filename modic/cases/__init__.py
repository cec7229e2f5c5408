"""Cases to look at: images of each graded study, studies with outliers first, and the viewer for a page."""
