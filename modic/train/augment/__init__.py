"""How training changes its images: slices for the detector, regions for the classifier, painted lesions."""
